/** Counts of deliveries in PostgreSQL (port: `store/ports/deliveries.ts`). */
import type { Database } from '../ports/database.ts';
import type { AlertPlaces, DeliveryRow, DeliveryStore, RevisionPlace } from '../ports/deliveries.ts';

const TRIM_ROWS = 5000;

const COLUMNS = `"offset", connected, sent, resent, received, first_sent_at, last_sent_at, first_received_at,
  last_received_at, send_bins, send_counts, receive_bins, receive_counts`;

// In the order of the key, so that two processes, or one that tries again, never wait for each other crosswise.
const SAVE = `
INSERT INTO alert_deliveries (channel, instance, ${COLUMNS})
SELECT $1, $2, ${COLUMNS}
FROM jsonb_to_recordset($3) AS t ("offset" bigint, connected integer, sent integer, resent integer, received integer,
  first_sent_at bigint, last_sent_at bigint, first_received_at bigint, last_received_at bigint,
  send_bins integer[], send_counts integer[], receive_bins integer[], receive_counts integer[])
ORDER BY "offset"
ON CONFLICT (channel, "offset", instance) DO UPDATE SET connected = excluded.connected, sent = excluded.sent,
  resent = excluded.resent, received = excluded.received, first_sent_at = excluded.first_sent_at,
  last_sent_at = excluded.last_sent_at, first_received_at = excluded.first_received_at,
  last_received_at = excluded.last_received_at, send_bins = excluded.send_bins, send_counts = excluded.send_counts,
  receive_bins = excluded.receive_bins, receive_counts = excluded.receive_counts`;

const READ = `SELECT ${COLUMNS} FROM alert_deliveries WHERE channel = $1 AND "offset" = ANY ($2::bigint[])`;

// An alert whose first offset is not known may have later ones: `revised_offsets` ends, as `revised_at` does, with the newest.
const PLACES = `
SELECT a.revision, a.sent_at, a.first_offset, a.revised_at, a.revised_offsets,
  (SELECT min("offset") FROM channel_messages WHERE channel = $1) AS oldest_kept
FROM alerts a WHERE a.id = $2`;

const TRIM = `
DELETE FROM alert_deliveries WHERE (channel, "offset", instance) IN (
  SELECT channel, "offset", instance FROM alert_deliveries
  WHERE channel = $1 AND "offset" < (SELECT min("offset") FROM channel_messages WHERE channel = $1)
  ORDER BY "offset" LIMIT ${TRIM_ROWS})`;

interface Columns {
  readonly offset: number;
  readonly connected: number;
  readonly sent: number;
  readonly resent: number;
  readonly received: number;
  readonly first_sent_at: number | null;
  readonly last_sent_at: number | null;
  readonly first_received_at: number | null;
  readonly last_received_at: number | null;
  readonly send_bins: readonly number[];
  readonly send_counts: readonly number[];
  readonly receive_bins: readonly number[];
  readonly receive_counts: readonly number[];
}

interface Places {
  readonly revision: number;
  readonly sent_at: number;
  readonly first_offset: number | null;
  readonly revised_at: readonly number[];
  readonly revised_offsets: readonly number[];
  readonly oldest_kept: number | null;
}

/** Builds the {@link DeliveryStore}. */
export function createDeliveryStore(db: Database): DeliveryStore {
  return {
    async save(channel, instance, rows) {
      if (rows.length === 0) return;
      await db.execute(SAVE, [channel, instance, JSON.stringify(rows.map(columnsOf))], 'deliveries-save');
    },
    async read(channel, offsets) {
      const rows = await db.query<Columns>(READ, [channel, offsets], 'deliveries-read');
      return rows.map(rowOf);
    },
    async places(channel, alertId, most) {
      const [row] = await db.query<Places>(PLACES, [channel, alertId], 'deliveries-places');
      return row === undefined ? null : placesOf(row, most);
    },
    trim: (channel) => db.execute(TRIM, [channel], 'deliveries-trim'),
  };
}

function columnsOf(row: DeliveryRow): Columns {
  return {
    offset: row.offset,
    connected: row.connected,
    sent: row.sent,
    resent: row.resent,
    received: row.received,
    first_sent_at: row.firstSentAt,
    last_sent_at: row.lastSentAt,
    first_received_at: row.firstReceivedAt,
    last_received_at: row.lastReceivedAt,
    send_bins: row.send.bins,
    send_counts: row.send.counts,
    receive_bins: row.receive.bins,
    receive_counts: row.receive.counts,
  };
}

function rowOf(row: Columns): DeliveryRow {
  return {
    offset: row.offset,
    connected: row.connected,
    sent: row.sent,
    resent: row.resent,
    received: row.received,
    firstSentAt: row.first_sent_at,
    lastSentAt: row.last_sent_at,
    firstReceivedAt: row.first_received_at,
    lastReceivedAt: row.last_received_at,
    send: { bins: row.send_bins, counts: row.send_counts },
    receive: { bins: row.receive_bins, counts: row.receive_counts },
  };
}

/** Both lists of the row end with its newest revision. */
function placesOf(row: Places, most: number): AlertPlaces {
  const newest: RevisionPlace[] = [];
  for (let back = 1; back <= Math.min(most, row.revised_offsets.length); back++) {
    const offset = row.revised_offsets.at(-back);
    const at = row.revised_at.at(-back);
    if (offset !== undefined && at !== undefined) newest.push({ revision: row.revision + 1 - back, offset, at });
  }
  const { first_offset: offset, sent_at: at } = row;
  return { first: offset === null ? null : { revision: 1, offset, at }, newest, oldestKept: row.oldest_kept };
}
