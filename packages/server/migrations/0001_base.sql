-- The base: identity, registry, log, readings, alerts, channels.
-- Times are bigint Unix milliseconds; identifiers follow ^[A-Za-z0-9._-]{1,64}$ and are checked before they come here.

-- The store's own clock in milliseconds: leases compare against it, never against a process's clock.
CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Facts about this installation, one row each (which first operator was made, …).
CREATE TABLE installation (
  name  text PRIMARY KEY,
  value text NOT NULL
);

-- Processes that work on this database, by leases.
CREATE TABLE instances (
  id          text PRIMARY KEY,
  lease_until bigint NOT NULL
);

-- People ------------------------------------------------------------------------------------------------------------

CREATE TABLE users (
  id            text PRIMARY KEY,
  email         text NOT NULL UNIQUE,          -- lower case
  password_hash text NOT NULL,                 -- argon2id, PHC string
  role          text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
  created_at    bigint NOT NULL,
  disabled_at   bigint
);

CREATE TABLE sessions (
  id               text PRIMARY KEY,           -- the `sid` of its tokens
  subject          text NOT NULL,              -- user id, or device:<id>
  user_id          text REFERENCES users (id) ON DELETE CASCADE,
  device_id        text,
  scope            text NOT NULL,
  fingerprint_hash bytea,
  created_at       bigint NOT NULL,
  expires_at       bigint NOT NULL,
  revoked_at       bigint,
  revoked_reason   text
);
CREATE INDEX sessions_by_subject ON sessions (subject);
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
  hash       bytea PRIMARY KEY,                -- SHA-256 of the token
  session_id text NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  issued_at  bigint NOT NULL,
  expires_at bigint NOT NULL,
  used_at    bigint,
  successor  bytea                             -- hash of the token it was exchanged for
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE tickets (
  hash             bytea PRIMARY KEY,          -- SHA-256 of the ticket
  session_id       text NOT NULL,              -- the `sid` of the token it was asked with; an outside token has no row
  user_id          text NOT NULL,
  role             text NOT NULL,
  token_expires_at bigint NOT NULL,            -- a ticket never outlives the token it was asked with
  expires_at       bigint NOT NULL
);

CREATE TABLE api_keys (
  id         text PRIMARY KEY,
  name       text NOT NULL,
  hash       bytea NOT NULL UNIQUE,            -- SHA-256 of the key
  scopes     text[] NOT NULL,
  created_at bigint NOT NULL,
  revoked_at bigint
);

CREATE TABLE signing_keys (
  kid        text PRIMARY KEY,                 -- RFC 7638 thumbprint
  purpose    text NOT NULL CHECK (purpose IN ('token', 'alert', 'command')),
  algorithm  text NOT NULL,
  public_jwk jsonb NOT NULL,
  sealed     bytea NOT NULL,                   -- private key, AES-256-GCM under a key from CLUSTER_SECRET
  created_at bigint NOT NULL,
  retired_at bigint
);
CREATE UNIQUE INDEX signing_keys_one_current ON signing_keys (purpose, algorithm) WHERE retired_at IS NULL;

-- Registry ----------------------------------------------------------------------------------------------------------

CREATE TABLE zones (
  id         text PRIMARY KEY,
  number     integer GENERATED ALWAYS AS IDENTITY UNIQUE,  -- short form for readings
  name       text NOT NULL,
  created_at bigint NOT NULL
);

CREATE TABLE devices (
  id         text PRIMARY KEY,
  number     integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  profile    text NOT NULL CHECK (profile IN ('seismic', 'host', 'mobile')),
  zone_id    text REFERENCES zones (id),
  latitude   double precision CHECK (latitude BETWEEN -90 AND 90),
  longitude  double precision CHECK (longitude BETWEEN -180 AND 180),
  public_key bytea NOT NULL,                   -- DER SubjectPublicKeyInfo, P-256
  owner_id   text,
  standing   text NOT NULL DEFAULT 'active' CHECK (standing IN ('active', 'inactive', 'quarantined', 'blocked', 'revoked')),
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL,
  CHECK ((latitude IS NULL) = (longitude IS NULL))
);
CREATE INDEX devices_by_zone ON devices (zone_id);
CREATE INDEX devices_by_owner ON devices (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX devices_by_key ON devices (public_key);

-- Integers of the original seismic client: zone z<n>, device m<n>.
CREATE SEQUENCE original_zone_numbers AS integer;
CREATE SEQUENCE original_device_numbers AS integer;

-- Log ---------------------------------------------------------------------------------------------------------------

CREATE TABLE envelope_ids (
  device_id   text NOT NULL,
  envelope_id text NOT NULL,
  digest      bytea NOT NULL,
  seen_at     bigint NOT NULL,
  PRIMARY KEY (device_id, envelope_id)
);
CREATE INDEX envelope_ids_by_age ON envelope_ids USING brin (seen_at);

-- Heads and positions are rows of their own tables: an append holds its head until its commit is on disk, and must not
-- make the worker wait that commits its position in the same partition (and the other way round).
CREATE TABLE log_heads (
  partition smallint PRIMARY KEY,
  head      bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE log_positions (
  partition   smallint PRIMARY KEY,
  position    bigint NOT NULL DEFAULT 0,
  fence       bigint NOT NULL DEFAULT 0,
  owner       text,
  lease_until bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE log_records (
  partition   smallint NOT NULL,
  "offset"    bigint NOT NULL,
  received_at bigint NOT NULL,
  kind        text NOT NULL,
  key         text NOT NULL,
  traceparent text,
  context     text NOT NULL,                   -- of envelopes: number of the device, number and id of its zone, or ''
  body        text NOT NULL,
  PRIMARY KEY (partition, "offset")
);

INSERT INTO log_heads (partition) SELECT generate_series(0, 15);
INSERT INTO log_positions (partition) SELECT generate_series(0, 15);

-- Records that no worker could work off: kept with the reason, so that nothing accepted is lost silently.
CREATE TABLE log_failures (
  partition smallint NOT NULL,
  "offset"  bigint NOT NULL,
  kind      text NOT NULL,
  key       text NOT NULL,
  body      text NOT NULL,
  reason    text NOT NULL,
  failed_at bigint NOT NULL,
  PRIMARY KEY (partition, "offset")
);

CREATE TABLE detector_states (
  partition  smallint NOT NULL,
  detector   text NOT NULL,
  key        text NOT NULL,
  state      text NOT NULL,                    -- JSON as the detector serialised it
  updated_at bigint NOT NULL,
  PRIMARY KEY (partition, detector, key)
);

-- Readings ----------------------------------------------------------------------------------------------------------

-- One partition for each day of received_at, made ahead by maintenance; dropped whole after READINGS_RETENTION_DAYS.
-- No unique index: a batch commits its rows together with the position that it moves, so it cannot be stored twice.
CREATE TABLE readings (
  received_at bigint NOT NULL,
  at          bigint NOT NULL,
  device      integer NOT NULL,                -- devices.number
  zone        integer,                         -- zones.number at the time
  value       double precision,                -- the profile's main field
  envelope_id text NOT NULL,
  fields      jsonb                            -- everything, when there is more than the main field
) PARTITION BY RANGE (received_at);
CREATE INDEX readings_by_device ON readings (device, at);
CREATE INDEX readings_by_time ON readings USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX readings_by_arrival ON readings USING brin (received_at) WITH (pages_per_range = 32);

-- Sums of closed stretches of arrival, by 5 minutes of the readings' own time.
CREATE TABLE rollups (
  scope    text NOT NULL CHECK (scope IN ('device', 'zone', 'all')),
  number   integer NOT NULL,                   -- devices.number, zones.number, 0
  profile  text NOT NULL,
  field    text NOT NULL,
  bucket   bigint NOT NULL,                    -- start, Unix ms, a multiple of 300000
  count    bigint NOT NULL,
  sum      double precision NOT NULL,
  squares  double precision NOT NULL,          -- sum of squared differences from the mean
  min      double precision NOT NULL,
  max      double precision NOT NULL,
  first_at bigint NOT NULL,
  last_at  bigint NOT NULL,
  bins     integer[] NOT NULL,                 -- DDSketch: bin, count, bin, count …; concatenation merges
  PRIMARY KEY (scope, number, profile, field, bucket)
);

-- Alerts and channels -----------------------------------------------------------------------------------------------

CREATE TABLE alerts (
  id          text PRIMARY KEY,                -- ULID
  kind        text NOT NULL,
  severity    text NOT NULL,
  status      text NOT NULL,
  state       text NOT NULL,
  revision    integer NOT NULL,
  "offset"    bigint NOT NULL,
  headline    text NOT NULL,
  description text NOT NULL,
  zone_id     text,
  device_id   text,
  latitude    double precision,
  longitude   double precision,
  onset       bigint NOT NULL,
  sent_at     bigint NOT NULL,
  updated_at  bigint NOT NULL,
  revised_at  bigint[] NOT NULL,               -- updated_at of the newest revisions, oldest first (CAP refers to them)
  fingerprint text NOT NULL UNIQUE,
  evidence    jsonb NOT NULL,
  signature   text NOT NULL
);
CREATE INDEX alerts_by_zone ON alerts (zone_id, id DESC);
CREATE INDEX alerts_by_device ON alerts (device_id, id DESC);

CREATE TABLE channels (
  channel text PRIMARY KEY,
  epoch   text NOT NULL,
  head    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE channel_messages (
  channel    text NOT NULL,
  "offset"   bigint NOT NULL,
  type       text NOT NULL,
  zone_id    text,
  severity   smallint NOT NULL,                -- rank: extreme 4 … unknown 0
  created_at bigint NOT NULL,
  body       text NOT NULL,                    -- the message's `data`, exactly as it is sent
  PRIMARY KEY (channel, "offset")
);

INSERT INTO channels (channel, epoch) VALUES ('alerts', replace(gen_random_uuid()::text, '-', ''));
