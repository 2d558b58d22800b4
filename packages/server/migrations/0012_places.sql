-- Places as conditions on a row: the planner sees through them, so that one statement finds devices by whatever index
-- suits its circle or box. They take the place of the functions of 0002, which hid their scan from the planner.
-- Same sphere, same answers in both forms: the exact part decides; what stands before it only lets an index narrow down.
-- Not STRICT: PostgreSQL does not open strict functions that call least, greatest or CASE.

DROP FUNCTION devices_near(double precision, double precision, double precision);
DROP FUNCTION devices_in_bbox(double precision, double precision, double precision, double precision);

-- Degrees as the formulas take them: what is closer to 0 than a tenth of a millimetre on the ground counts as 0. A device
-- at latitude 1e-200 would else be an underflow, which PostgreSQL answers with an error, in everybody's question.
CREATE FUNCTION geo_degrees(d double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$ SELECT CASE WHEN d BETWEEN -1e-9 AND 1e-9 THEN 0 ELSE d END $$;

CREATE OR REPLACE FUNCTION geo_distance_m(lat1 double precision, lon1 double precision, lat2 double precision, lon2 double precision)
  RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
      power(sin(radians(geo_degrees(lat2 - lat1)) / 2), 2)
      + cos(radians(geo_degrees(lat1))) * cos(radians(geo_degrees(lat2)))
        * power(sin(radians(geo_degrees(lon2 - lon1)) / 2), 2))))
  $$;

-- The angle of a radius in degrees, a hair wider than exact so that rounding excludes nothing.
CREATE FUNCTION geo_reach(radius double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$ SELECT degrees(greatest(least(radius, 20020000), 1e-3) / 6371008.8) * 1.000001 + 1e-7 $$;

-- How far a circle of that angle spans to both sides: asin(sin(reach) / cos(lat)), everywhere when it holds a pole.
CREATE FUNCTION geo_spread(lat double precision, reach double precision) RETURNS double precision
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$
    SELECT CASE WHEN abs(lat) + reach < 90
      THEN degrees(asin(least(1, sin(radians(reach)) / cos(radians(geo_degrees(lat)))))) * 1.000001 + 1e-7
      ELSE 360 END
  $$;

-- Is the place within `radius` metres of lat, lon (the limit included)? Plain form; PostGIS replaces it below.
CREATE FUNCTION place_near(latitude double precision, longitude double precision,
    lat double precision, lon double precision, radius double precision)
  RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$
    SELECT latitude BETWEEN lat - geo_reach(radius) AND lat + geo_reach(radius)
      AND (longitude BETWEEN lon - geo_spread(lat, geo_reach(radius)) AND lon + geo_spread(lat, geo_reach(radius))
        OR longitude >= lon - geo_spread(lat, geo_reach(radius)) + 360
        OR longitude <= lon + geo_spread(lat, geo_reach(radius)) - 360)
      AND geo_distance_m(lat, lon, latitude, longitude) <= radius
  $$;

-- Is the place in the box of parallels and meridians, limits included? West > east: the box crosses the antimeridian.
-- The meridians 180 and -180 are one; a pole has every longitude. Plain form; PostGIS replaces it below.
CREATE FUNCTION place_in_box(latitude double precision, longitude double precision,
    west double precision, south double precision, east double precision, north double precision)
  RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS $$
    SELECT latitude BETWEEN south AND north
      AND ((west <= east AND longitude BETWEEN west AND east)
        OR (west > east AND (longitude >= west OR longitude <= east))
        OR (abs(longitude) = 180 AND (abs(west) = 180 OR abs(east) = 180))
        OR abs(latitude) = 90)
  $$;

-- Gives both conditions their PostGIS form, with GiST indexes, where the extension is installed; answers whether it is.
-- For an administrator who adds PostGIS later. Safe to call again.
CREATE FUNCTION use_postgis() RETURNS boolean LANGUAGE plpgsql
  AS $outer$
  DECLARE
    home text;
  BEGIN
    SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'postgis';
    IF home IS NULL THEN
      RETURN false;
    END IF;
    EXECUTE format($ddl$
      CREATE INDEX IF NOT EXISTS devices_by_geography ON devices
        USING gist ((%1$I.ST_SetSRID(%1$I.ST_MakePoint(longitude, latitude), 4326)::%1$I.geography))
        WHERE latitude IS NOT NULL
    $ddl$, home);
    EXECUTE format($ddl$
      CREATE INDEX IF NOT EXISTS devices_by_point ON devices
        USING gist ((%1$I.ST_MakePoint(longitude, latitude))) WHERE latitude IS NOT NULL
    $ddl$, home);
    DROP INDEX IF EXISTS devices_by_place;

    -- ST_DWithin on the sphere (radius 6371008.77 m) with a margin; the haversine decides.
    EXECUTE format($ddl$
      CREATE OR REPLACE FUNCTION place_near(latitude double precision, longitude double precision,
          lat double precision, lon double precision, radius double precision)
        RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $body$
          SELECT latitude IS NOT NULL
            AND %1$I.ST_DWithin(
              %1$I.ST_SetSRID(%1$I.ST_MakePoint(longitude, latitude), 4326)::%1$I.geography,
              %1$I.ST_SetSRID(%1$I.ST_MakePoint(lon, lat), 4326)::%1$I.geography,
              least(greatest(radius, 0), 20020000) * 1.000001 + 1, false)
            AND geo_distance_m(lat, lon, latitude, longitude) <= radius
        $body$
    $ddl$, home);

    -- One envelope for each piece that the box has; those that it lacks are null and fall away while planning.
    EXECUTE format($ddl$
      CREATE OR REPLACE FUNCTION place_in_box(latitude double precision, longitude double precision,
          west double precision, south double precision, east double precision, north double precision)
        RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $body$
          SELECT latitude IS NOT NULL
            AND (%1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                %1$I.ST_MakeEnvelope(west, south, CASE WHEN west <= east THEN east ELSE 180 END, north)
              OR %1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                CASE WHEN west > east THEN %1$I.ST_MakeEnvelope(-180, south, east, north) END
              OR %1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                CASE WHEN abs(west) = 180 OR abs(east) = 180 THEN %1$I.ST_MakeEnvelope(-180, south, -180, north) END
              OR %1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                CASE WHEN abs(west) = 180 OR abs(east) = 180 THEN %1$I.ST_MakeEnvelope(180, south, 180, north) END
              OR %1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                CASE WHEN south = -90 THEN %1$I.ST_MakeEnvelope(-180, -90, 180, -90) END
              OR %1$I.ST_MakePoint(longitude, latitude) OPERATOR(%1$I.&&)
                CASE WHEN north = 90 THEN %1$I.ST_MakeEnvelope(-180, 90, 180, 90) END)
            AND latitude BETWEEN south AND north
            AND ((west <= east AND longitude BETWEEN west AND east)
              OR (west > east AND (longitude >= west OR longitude <= east))
              OR (abs(longitude) = 180 AND (abs(west) = 180 OR abs(east) = 180))
              OR abs(latitude) = 90)
        $body$
    $ddl$, home);
    RETURN true;
  END $outer$;

SELECT use_postgis();
