-- Several processes on one database: what each instance is, and leases by name for work that one of them does at a time.

-- shared: it has a bus that others can be on. on_bus: that bus carries its messages. worker: it takes partitions of the log.
ALTER TABLE instances
  ADD COLUMN shared boolean NOT NULL DEFAULT false,
  ADD COLUMN on_bus boolean NOT NULL DEFAULT false,
  ADD COLUMN worker boolean NOT NULL DEFAULT false;

CREATE TABLE leases (
  name        text PRIMARY KEY,
  owner       text NOT NULL,
  lease_until bigint NOT NULL
);
