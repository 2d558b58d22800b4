-- Which frames of hosts were accepted lately, so that a second delivery changes nothing (MQTT delivers at least once).
--
-- Hosts send often and their ids count for an hour, not for the seven days of `envelope_ids`: here nothing is deleted row by
-- row. Ids lie in slots by the half hour of their arrival; a slot is emptied as a whole before its turn comes again.

-- An id begins with the frame's own time, so new ones go to the right end of the index. No digest: the id has it.
CREATE TABLE frame_ids (
  frame_id  text COLLATE "C" NOT NULL,
  device_id text COLLATE "C" NOT NULL,
  slot      smallint NOT NULL,
  PRIMARY KEY (frame_id, device_id, slot)
) PARTITION BY LIST (slot);
CREATE TABLE frame_ids_0 PARTITION OF frame_ids FOR VALUES IN (0);
CREATE TABLE frame_ids_1 PARTITION OF frame_ids FOR VALUES IN (1);
CREATE TABLE frame_ids_2 PARTITION OF frame_ids FOR VALUES IN (2);
CREATE TABLE frame_ids_3 PARTITION OF frame_ids FOR VALUES IN (3);

-- The slot of an arrival: this half hour's, with the two before it at least an hour.
CREATE FUNCTION frame_slot(at bigint) RETURNS smallint LANGUAGE sql IMMUTABLE
  RETURN (at / 1800000 % 4)::smallint;

-- Which of the frames given (from 1) are known, in whatever slot. Index scans only: slots grow by thousands a second, and a
-- plan made while they were nearly empty must not read them from end to end.
CREATE FUNCTION known_frames(devices text[], frames text[]) RETURNS SETOF bigint LANGUAGE plpgsql STABLE
  SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
  AS $$
  BEGIN
    RETURN QUERY SELECT given.n FROM unnest(devices, frames) WITH ORDINALITY AS given (device_id, frame_id, n)
      WHERE EXISTS (SELECT FROM frame_ids f WHERE f.frame_id = given.frame_id AND f.device_id = given.device_id);
  END $$;

-- Empties the slot that comes next, which holds what arrived an hour and a half ago or earlier; answers whether it held
-- anything. Not near the ends of a half hour: another process may be a little ahead there. When long statements hold the slot
-- the next maintenance tries again; nobody is kept waiting behind this.
CREATE FUNCTION empty_next_frame_slot(now bigint) RETURNS boolean LANGUAGE plpgsql
  SET lock_timeout = '2s'
  AS $$
  DECLARE
    child constant text := 'frame_ids_' || frame_slot(now + 1800000);
    held  boolean;
  BEGIN
    IF now % 1800000 NOT BETWEEN 120000 AND 1680000 THEN
      RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', child) INTO held;
    IF held THEN
      EXECUTE format('TRUNCATE %I', child);
    END IF;
    RETURN held;
  EXCEPTION WHEN lock_not_available THEN
    RETURN false;
  END $$;
