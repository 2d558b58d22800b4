-- Hosts that nobody registered: what reports frames over MQTT has a row without a key.
ALTER TABLE devices ALTER COLUMN public_key DROP NOT NULL;
ALTER TABLE devices ADD CONSTRAINT devices_without_key_are_hosts CHECK (public_key IS NOT NULL OR profile = 'host');

-- Set while a self-reported host that no longer reports is about to be forgotten: ingest finds it no more, a frame takes it
-- back. Between this and the deletion lies the time in which a frame that found it before may still be committed.
ALTER TABLE devices ADD COLUMN leaving_at bigint;

-- Counts and walks through the self-reported ones, however many others there are.
CREATE INDEX devices_self_reported ON devices (number) WHERE public_key IS NULL;
CREATE INDEX devices_leaving ON devices (leaving_at) WHERE leaving_at IS NOT NULL;

-- Numbers that no device has any more: what was summed up for them goes, piece by piece.
CREATE TABLE forgotten_numbers (
  number       integer PRIMARY KEY,            -- was devices.number
  forgotten_at bigint NOT NULL
);
