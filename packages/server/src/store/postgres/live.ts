/** The last readings of hosts in PostgreSQL (port: `store/ports/live.ts`). */
import type { Database } from '../ports/database.ts';
import type { LiveReading, LiveReadings } from '../ports/live.ts';

// The stretch of arrival is found by its partition and its BRIN index (readings_by_arrival); a reading of a host always has
// `fields`, one of a trigger never.
const NEWEST = `
SELECT id AS "deviceId", received_at AS "receivedAt", at, fields FROM (
  SELECT DISTINCT ON (r.device) d.id, r.received_at, r.at, r.fields
  FROM readings r JOIN devices d ON d.number = r.device
  WHERE r.received_at > $1 AND r.fields IS NOT NULL AND d.profile = 'host'
  ORDER BY r.device, r.received_at DESC, r.at DESC) AS newest
ORDER BY received_at DESC LIMIT $2`;

/** Builds the {@link LiveReadings} over `db`. */
export function createLiveReadings(db: Database): LiveReadings {
  return { newest: (since, most) => db.query<LiveReading>(NEWEST, [since, most], 'live-newest') };
}
