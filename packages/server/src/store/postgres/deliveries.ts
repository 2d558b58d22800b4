/** Counts of deliveries in PostgreSQL (port: `store/ports/deliveries.ts`). */
import type { Database } from '../ports/database.ts';
import type { AlertPlaces, DeliveryRow, DeliveryStore, RevisionPlace } from '../ports/deliveries.ts';

const TRIM_ROWS = 5000;

/** Columns, and the members of {@link Flat} that they are. */
const COLUMNS = `"offset", connected, sent, resent, received, first_sent_at, last_sent_at, first_received_at,
  last_received_at, send_bins, send_counts, receive_bins, receive_counts`;
const MEMBERS = `"offset", connected, sent, resent, received, "firstSentAt", "lastSentAt", "firstReceivedAt",
  "lastReceivedAt", "sendBins", "sendCounts", "receiveBins", "receiveCounts"`;

// In the order of the key, so that two processes, or one that tries again, never wait for each other crosswise.
const SAVE = `
INSERT INTO alert_deliveries (channel, instance, ${COLUMNS})
SELECT $1, $2, ${MEMBERS}
FROM jsonb_to_recordset($3) AS t ("offset" bigint, connected integer, sent integer, resent integer, received integer,
  "firstSentAt" bigint, "lastSentAt" bigint, "firstReceivedAt" bigint, "lastReceivedAt" bigint,
  "sendBins" integer[], "sendCounts" integer[], "receiveBins" integer[], "receiveCounts" integer[])
ORDER BY "offset"
ON CONFLICT (channel, "offset", instance) DO UPDATE SET connected = excluded.connected, sent = excluded.sent,
  resent = excluded.resent, received = excluded.received, first_sent_at = excluded.first_sent_at,
  last_sent_at = excluded.last_sent_at, first_received_at = excluded.first_received_at,
  last_received_at = excluded.last_received_at, send_bins = excluded.send_bins, send_counts = excluded.send_counts,
  receive_bins = excluded.receive_bins, receive_counts = excluded.receive_counts`;

const READ = `
SELECT ${MEMBERS} FROM (SELECT ${COLUMNS} FROM alert_deliveries WHERE channel = $1 AND "offset" = ANY ($2::bigint[]))
AS t (${MEMBERS})`;

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

/** A row with its sketches side by side, as a table has it. */
interface Flat extends Omit<DeliveryRow, 'send' | 'receive'> {
  readonly sendBins: readonly number[];
  readonly sendCounts: readonly number[];
  readonly receiveBins: readonly number[];
  readonly receiveCounts: readonly number[];
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
      await db.execute(SAVE, [channel, instance, JSON.stringify(rows.map(flatten))], 'deliveries-save');
    },
    async read(channel, offsets) {
      const rows = await db.query<Flat>(READ, [channel, offsets], 'deliveries-read');
      return rows.map(rowOf);
    },
    async places(channel, alertId, most) {
      const [row] = await db.query<Places>(PLACES, [channel, alertId], 'deliveries-places');
      return row === undefined ? null : placesOf(row, most);
    },
    trim: (channel) => db.execute(TRIM, [channel], 'deliveries-trim'),
  };
}

function flatten({ send, receive, ...row }: DeliveryRow): Flat {
  return {
    ...row,
    sendBins: send.bins,
    sendCounts: send.counts,
    receiveBins: receive.bins,
    receiveCounts: receive.counts,
  };
}

function rowOf({ sendBins, sendCounts, receiveBins, receiveCounts, ...row }: Flat): DeliveryRow {
  return {
    ...row,
    send: { bins: sendBins, counts: sendCounts },
    receive: { bins: receiveBins, counts: receiveCounts },
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
