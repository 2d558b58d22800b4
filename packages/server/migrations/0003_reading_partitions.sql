-- Day partitions of `readings`, by UTC day of received_at, named readings_<yyyymmdd>. There is no default partition:
-- a reading whose day was not made ahead is an error, never a row in a place that nobody drops.

-- Makes the missing partitions from the day of `from_ms` to `days` days after it; answers the names that it made.
-- Attaching takes SHARE UPDATE EXCLUSIVE on `readings` (CREATE … PARTITION OF would stop every reader and writer).
CREATE FUNCTION ensure_reading_partitions(from_ms bigint, days integer) RETURNS SETOF text LANGUAGE plpgsql
  AS $$
  DECLARE
    day   constant bigint := 86400000;
    lower bigint;
    child text;
  BEGIN
    FOR ahead IN 0 .. days LOOP
      lower := from_ms / day * day + ahead * day;
      child := 'readings_' || to_char(to_timestamp(lower / 1000) AT TIME ZONE 'UTC', 'YYYYMMDD');
      CONTINUE WHEN to_regclass(child) IS NOT NULL;
      -- One maker at a time; unlike an advisory lock this also brings the catalogue caches up to date.
      LOCK TABLE ONLY readings IN SHARE UPDATE EXCLUSIVE MODE;
      CONTINUE WHEN to_regclass(child) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE readings INCLUDING ALL)', child);
      EXECUTE format('ALTER TABLE readings ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', child, lower, lower + day);
      RETURN NEXT child;
    END LOOP;
  END $$;

-- Drops the oldest partition if all of it lies before `before_ms`; answers its name, or null when there is none or when
-- long statements hold the table (the next maintenance tries again; nobody is kept waiting behind this).
CREATE FUNCTION drop_oldest_reading_partition(before_ms bigint) RETURNS text LANGUAGE plpgsql
  SET lock_timeout = '2s'
  AS $$
  DECLARE
    child text;
  BEGIN
    LOCK TABLE ONLY readings IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT c.relname INTO child
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'readings'::regclass AND c.relname ~ '^readings_[0-9]{8}$'
    ORDER BY c.relname LIMIT 1;
    IF child IS NULL
      OR extract(epoch FROM (to_date(right(child, 8), 'YYYYMMDD') + 1)::timestamp) * 1000 > before_ms THEN
      RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE %I', child);
    RETURN child;
  EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
  END $$;

-- From yesterday to a week ahead; maintenance goes on from there.
DO $$ BEGIN PERFORM ensure_reading_partitions(now_ms() - 86400000, 8); END $$;
