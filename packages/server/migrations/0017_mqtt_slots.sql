-- The link to an outside MQTT broker: which process speaks to the broker as which client.

-- A slot is a client id at the broker (`tocsin-<installation>-<number>`) and with it a session that outlives connections: the
-- row is there as long as the broker may keep that session. owner NULL: given up in good order. fence: unlike any other
-- slot's, of now or of before. shared: the broker shares subscriptions, as the holder last saw. filters: what that session
-- may be subscribed to.
CREATE TABLE mqtt_slots (
  number      integer PRIMARY KEY CHECK (number >= 0),
  owner       text,
  fence       bigint NOT NULL,
  lease_until bigint NOT NULL,
  shared      boolean,
  filters     text[] NOT NULL DEFAULT '{}'
);

CREATE SEQUENCE mqtt_slot_fences;
