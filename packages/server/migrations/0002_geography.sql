-- Geography: great circles on a sphere of R = 6371008.8 m (IUGG mean radius), the same answers on every engine.
-- The haversine decides; an index only narrows down beforehand: GiST over geography where PostGIS can be had, else a
-- btree over latitude and longitude. Degrees: latitude -90..90, longitude -180..180; distances in metres.

-- Distance by the haversine formula (R. W. Sinnott, "Virtues of the haversine", Sky and Telescope 68, 1984).
CREATE FUNCTION geo_distance_m(lat1 double precision, lon1 double precision, lat2 double precision, lon2 double precision)
  RETURNS double precision LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
      power(sin(radians(lat2 - lat1) / 2), 2)
      + cos(radians(lat1)) * cos(radians(lat2)) * power(sin(radians(lon2 - lon1) / 2), 2))))
  $$;

CREATE INDEX devices_by_place ON devices (latitude, longitude) WHERE latitude IS NOT NULL;

-- Devices within `radius` metres of a place (the limit included), in no order. Plain form; PostGIS replaces it below.
CREATE FUNCTION devices_near(lat double precision, lon double precision, radius double precision)
  RETURNS TABLE (id text, distance_m double precision) LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 100
  AS $$
  DECLARE
    -- The angle of the radius, a hair wider than exact so that rounding excludes nothing.
    reach  double precision := degrees(least(radius, 20020000) / 6371008.8) * 1.000001 + 1e-7;
    spread double precision := 360;
    west   double precision;
    east   double precision;
  BEGIN
    -- Where the circle holds no pole it spans asin(sin(reach) / cos(lat)) to both sides.
    IF abs(lat) + reach < 90 THEN
      spread := degrees(asin(least(1, sin(radians(reach)) / cos(radians(lat))))) * 1.000001 + 1e-7;
    END IF;
    west := lon - spread;
    east := lon + spread;
    RETURN QUERY
      SELECT d.id, m.metres
      FROM devices d, LATERAL (SELECT geo_distance_m(lat, lon, d.latitude, d.longitude) AS metres OFFSET 0) m
      WHERE d.latitude BETWEEN lat - reach AND lat + reach
        AND (d.longitude BETWEEN west AND east OR d.longitude >= west + 360 OR d.longitude <= east - 360)
        AND m.metres <= radius;
  END $$;

-- Devices in a box of parallels and meridians, limits included. West > east: the box crosses the antimeridian.
-- The meridians 180 and -180 are one; a pole has every longitude.
CREATE FUNCTION devices_in_bbox(west double precision, south double precision, east double precision, north double precision)
  RETURNS SETOF text LANGUAGE sql STABLE STRICT PARALLEL SAFE ROWS 100
  AS $$
    SELECT d.id
    FROM devices d
    WHERE d.latitude BETWEEN south AND north
      AND (
        (west <= east AND d.longitude BETWEEN west AND east)
        OR (west > east AND (d.longitude >= west OR d.longitude <= east))
        OR (abs(d.longitude) = 180 AND (abs(west) = 180 OR abs(east) = 180))
        OR abs(d.latitude) = 90
      )
  $$;

DO $outer$
DECLARE
  home text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgis') THEN
    RETURN;
  END IF;
  BEGIN
    CREATE EXTENSION IF NOT EXISTS postgis;
  EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
    RAISE NOTICE 'PostGIS cannot be created here (%): the plain form stays', SQLERRM;
    RETURN;
  END;
  SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'postgis';

  EXECUTE format($ddl$
    CREATE INDEX devices_by_geography ON devices
      USING gist ((%1$I.ST_SetSRID(%1$I.ST_MakePoint(longitude, latitude), 4326)::%1$I.geography))
      WHERE latitude IS NOT NULL
  $ddl$, home);

  -- ST_DWithin on the sphere (radius 6371008.77 m) with a margin; the haversine decides.
  EXECUTE format($ddl$
    CREATE OR REPLACE FUNCTION devices_near(lat double precision, lon double precision, radius double precision)
      RETURNS TABLE (id text, distance_m double precision) LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 100
      AS $body$
      DECLARE
        centre %1$I.geography := %1$I.ST_SetSRID(%1$I.ST_MakePoint(lon, lat), 4326)::%1$I.geography;
        reach  double precision := least(radius, 20020000) * 1.000001 + 1;
      BEGIN
        RETURN QUERY
          SELECT d.id, m.metres
          FROM devices d, LATERAL (SELECT geo_distance_m(lat, lon, d.latitude, d.longitude) AS metres OFFSET 0) m
          WHERE d.latitude IS NOT NULL
            AND %1$I.ST_DWithin(
              %1$I.ST_SetSRID(%1$I.ST_MakePoint(d.longitude, d.latitude), 4326)::%1$I.geography, centre, reach, false)
            AND m.metres <= radius;
      END $body$
  $ddl$, home);
END $outer$;
