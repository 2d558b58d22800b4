/** Alerts in PostgreSQL (port: `store/ports/alerts.ts`). */
import type { Alert } from '@tocsin/protocol/alert';
import { type AlertFilter, type AlertStore, REVISIONS_KEPT } from '../ports/alerts.ts';
import type { Database } from '../ports/database.ts';

/** In the order of the members on the wire. */
const COLUMNS = `id, kind, severity, status, state, revision, "offset", headline, description,
  zone_id AS "zoneId", device_id AS "deviceId", latitude, longitude, onset, sent_at AS "sentAt", updated_at AS "updatedAt",
  fingerprint, evidence, signature`;

// By fingerprint, like every lock of alerts, so that two transactions with several of the same do not deadlock.
const INSERT_NEW = `
INSERT INTO alerts (id, kind, severity, status, state, revision, "offset", headline, description, zone_id, device_id,
  latitude, longitude, onset, sent_at, updated_at, revised_at, fingerprint, evidence, signature)
SELECT id, kind, severity, status, state, revision, 0, headline, description, "zoneId", "deviceId",
  latitude, longitude, onset, "sentAt", "updatedAt", ARRAY["updatedAt"], fingerprint, evidence, ''
FROM jsonb_to_recordset($1) AS t (id text, kind text, severity text, status text, state text, revision integer,
  headline text, description text, "zoneId" text, "deviceId" text, latitude float8, longitude float8, onset bigint,
  "sentAt" bigint, "updatedAt" bigint, fingerprint text, evidence jsonb)
ORDER BY fingerprint
ON CONFLICT (fingerprint) DO NOTHING
RETURNING fingerprint`;

const LOCK_BY_FINGERPRINT = `SELECT ${COLUMNS} FROM alerts WHERE fingerprint = ANY ($1::text[]) ORDER BY fingerprint FOR UPDATE`;
const LOCK_BY_ID = `SELECT ${COLUMNS} FROM alerts WHERE id = $1 FOR UPDATE`;

const ENTER = `
WITH revised AS (
  UPDATE alerts a SET severity = t.severity, state = t.state, revision = t.revision, "offset" = t."offset",
    headline = t.headline, description = t.description, latitude = t.latitude, longitude = t.longitude,
    updated_at = t."updatedAt", evidence = t.evidence, signature = t.signature,
    revised_at = CASE WHEN t.revision = a.revision THEN a.revised_at
      ELSE (a.revised_at || t."updatedAt")[greatest(1, cardinality(a.revised_at) + 2 - $2):] END,
    revised_offsets = (a.revised_offsets || t."offset")[greatest(1, cardinality(a.revised_offsets) + 2 - $2):],
    first_offset = CASE WHEN t.revision = 1 THEN t."offset" ELSE a.first_offset END
  FROM jsonb_to_recordset($1) AS t (id text, severity text, state text, revision integer, "offset" bigint, headline text,
    description text, latitude float8, longitude float8, "updatedAt" bigint, evidence jsonb, signature text)
  WHERE a.id = t.id
)
INSERT INTO channel_messages (channel, "offset", type, zone_id, severity, created_at, body)
SELECT * FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::smallint[], $8::bigint[], $9::text[])`;

/** Builds the {@link AlertStore}. */
export function createAlertStore(db: Database): AlertStore {
  return {
    async insertNew(sql, drafts) {
      const rows = await sql.query<{ fingerprint: string }>(INSERT_NEW, [JSON.stringify(drafts)], 'alerts-insert-new');
      return rows.map((row) => row.fingerprint);
    },
    lockByFingerprint: (sql, fingerprints) =>
      sql.query<Alert>(LOCK_BY_FINGERPRINT, [fingerprints], 'alerts-lock-by-fingerprint'),
    async lockById(sql, id) {
      const [row] = await sql.query<Alert>(LOCK_BY_ID, [id], 'alerts-lock-by-id');
      return row ?? null;
    },
    async enter(sql, revisions) {
      const values = [
        JSON.stringify(revisions.map(({ alert }) => alert)),
        REVISIONS_KEPT,
        revisions.map(({ message }) => message.channel),
        revisions.map(({ message }) => message.offset),
        revisions.map(({ message }) => message.type),
        revisions.map(({ message }) => message.zoneId),
        revisions.map(({ message }) => message.severity),
        revisions.map(({ message }) => message.createdAt),
        revisions.map(({ message }) => message.body),
      ];
      await sql.execute(ENTER, values, 'alerts-enter');
    },
    async get(id) {
      const [row] = await db.query<Alert & { revisedAt: number[] }>(
        `SELECT ${COLUMNS}, revised_at AS "revisedAt" FROM alerts WHERE id = $1`,
        [id],
        'alerts-get',
      );
      if (row === undefined) return null;
      const { revisedAt, ...alert } = row;
      return { alert, revisedAt };
    },
    list: (filter, before, limit) => {
      const { text, values } = listQuery(filter, before, limit);
      return db.query<Alert>(text, values);
    },
  };
}

/** Only the conditions that are asked for, so that the planner sees which index serves. Pure. */
function listQuery(filter: AlertFilter, before: string | null, limit: number): { text: string; values: unknown[] } {
  const values: unknown[] = [];
  const conditions: string[] = [];
  const add = (condition: string, value: unknown): void => {
    if (value !== null) conditions.push(`${condition} $${values.push(value)}`);
  };
  add('zone_id =', filter.zoneId);
  add('device_id =', filter.deviceId);
  add('kind =', filter.kind);
  add('severity =', filter.severity);
  add('state =', filter.state);
  add('sent_at >=', filter.since);
  add('sent_at <', filter.until);
  add('id <', before);
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`;
  return { text: `SELECT ${COLUMNS} FROM alerts${where} ORDER BY id DESC LIMIT $${values.push(limit)}`, values };
}
