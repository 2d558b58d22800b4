-- Rollups: sums of closed stretches of arrival. One row for each 5 minutes and one for each day of the readings' own
-- time; both hold the same readings, those with received_at < rollup_state.rolled_until.

-- The sketch's bins come as two arrays of equal length, so that one unnest reads both; a bin may occur twice.
ALTER TABLE rollups ADD COLUMN bin_counts bigint[] NOT NULL;
COMMENT ON COLUMN rollups.bins IS 'DDSketch: bins as rollup_bin() gives them; how many values each holds is in bin_counts';

CREATE TABLE rollup_days (LIKE rollups INCLUDING ALL);   -- bucket: a multiple of 86400000

CREATE TABLE rollup_state (
  only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  rolled_until bigint NOT NULL DEFAULT 0,      -- readings received before this are in the rollups, all others are not
  kept_from    bigint NOT NULL DEFAULT 0       -- readings received before this may have been dropped
);
INSERT INTO rollup_state DEFAULT VALUES;

-- Which devices have readings of a zone among those rolled up: finds them by readings_by_device, at no cost for writers.
CREATE TABLE zone_devices (
  zone   integer NOT NULL,                     -- zones.number
  device integer NOT NULL,                     -- devices.number
  PRIMARY KEY (zone, device)
);

-- A number as statistics take it: magnitudes above 1e120 count as 1e120 and below 1e-120 as 0, so that no sum and no
-- square can overflow or underflow (either is an error in PostgreSQL and would stop the rollups for everybody).
CREATE FUNCTION rollup_number(v double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$ SELECT CASE WHEN v IS NULL THEN NULL WHEN v BETWEEN -1e-120 AND 1e-120 THEN 0
               ELSE greatest(-1e120, least(1e120, v)) END $$;   -- greatest and least pass over nulls

-- The bin of a number: 0 for 0, else sign * (20000 + ceil(log |v| to the base 1.01/0.99)). Bins sort as numbers do.
-- Masson, Rim, Lee: DDSketch, VLDB 2019; relative error 1 %. `registry/statistics-sketch.ts` reads them.
CREATE FUNCTION rollup_bin(v double precision) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$ SELECT CASE WHEN v = 0 THEN 0
               WHEN v > 0 THEN 20000 + ceil(ln(v) / 0.020000666706669435)::integer
               ELSE -20000 - ceil(ln(-v) / 0.020000666706669435)::integer END $$;

-- A square that underflows to 0 instead of to an error.
CREATE FUNCTION rollup_square(d double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$ SELECT CASE WHEN d BETWEEN -1e-150 AND 1e-150 THEN 0 ELSE d * d END $$;
