/**
 * The log in PostgreSQL (port: `store/ports/log.ts`).
 *
 * An append is one statement, so one round trip and one commit: ids, heads and records. Locks are always taken in the
 * same order (ids by device and id, then heads by partition), so appends do not deadlock with each other or with
 * workers, which take their position first and heads last. Records of a partition stand in the order they were given in.
 */
import type {
  AppendOutcome,
  BatchCommit,
  EnvelopeAppend,
  KeyedAppend,
  Lease,
  Log,
  LogKind,
  LogRecord,
  PartitionState,
  ReadFrom,
} from '../ports/log.ts';
import type { Database, Sql } from '../ports/database.ts';
import { formatContext, parseContext } from '../ports/log-context.ts';
import { takeHeads } from './log-heads.ts';
import { createTail, type Tail } from './tail.ts';
import { batchColumns, EPOCH, keyedColumns, LOCK_POSITIONS } from './work-columns.ts';

/** Partitions that the base migration makes. */
const PARTITIONS = 16;
/** An append is over, one way or the other, this long after its envelope had arrived (statement timeouts are shorter). */
const COMMIT_MARGIN_MS = 60_000;
const FORGET_ROWS = 20_000;
/** Of each partition: a statement of all of them must end well within the timeout, also on a slow disk. */
const TRIM_ROWS = 2000;

/**
 * The statement of an append. Frames have ids of a kind of their own (`migrations/0015_frame_ids.sql`); a statement with none
 * of them does not look there.
 */
function appendStatement(withFrames: boolean): string {
  const envelopes = withFrames ? "WHERE kind <> 'frame'" : '';
  const frames = `, known AS MATERIALIZED (
  SELECT n FROM known_frames($1::text[], $2::text[]) AS n
), fresh_frames AS (
  INSERT INTO frame_ids (frame_id, device_id, slot)
  SELECT envelope_id, device_id, frame_slot(received_at) FROM input WHERE kind = 'frame' AND n NOT IN (SELECT n FROM known)
  ORDER BY device_id COLLATE "C", envelope_id COLLATE "C"
  ON CONFLICT DO NOTHING
  RETURNING device_id, frame_id AS envelope_id
)`;
  const both = `SELECT *, false AS frame FROM fresh UNION ALL SELECT *, true FROM fresh_frames`;
  const kept = withFrames
    ? `FROM input JOIN (${both}) AS new USING (device_id, envelope_id) WHERE new.frame = (input.kind = 'frame')`
    : 'FROM input JOIN fresh USING (device_id, envelope_id)';
  return `
WITH input AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[])
    WITH ORDINALITY AS t (device_id, envelope_id, digest, partition, kind, received_at, traceparent, context, body, n)
), fresh AS (
  INSERT INTO envelope_ids (device_id, envelope_id, digest, seen_at)
  SELECT device_id, envelope_id, decode(digest, 'hex'), received_at FROM input ${envelopes}
  ORDER BY device_id COLLATE "C", envelope_id COLLATE "C"
  ON CONFLICT DO NOTHING
  RETURNING device_id, envelope_id
)${withFrames ? frames : ''}, kept AS (
  SELECT input.*, row_number() OVER (PARTITION BY partition ORDER BY n) AS rank ${kept}
), ${takeHeads('kept')}, written AS (
  INSERT INTO log_records (partition, "offset", received_at, kind, key, traceparent, context, body)
  SELECT k.partition, h.base + k.rank, k.received_at, k.kind, k.device_id, nullif(k.traceparent, ''), k.context, k.body
  FROM kept k JOIN heads h USING (partition)
)
SELECT count(*)::integer AS kept, ${EPOCH} AS epoch, (SELECT string_agg(partition || ' ' || base, ',') FROM heads) AS bases,
  CASE WHEN count(*) < cardinality($1::text[]) THEN string_agg(n::text, ',') END AS numbers FROM kept`;
}

const APPEND = appendStatement(false);
const APPEND_WITH_FRAMES = appendStatement(true);

const APPEND_KEYED = `
WITH input AS (
  SELECT * FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
    WITH ORDINALITY AS t (partition, kind, received_at, key, traceparent, body, n)
), ranked AS (
  SELECT *, row_number() OVER (PARTITION BY partition ORDER BY n) AS rank FROM input
), ${takeHeads('input')}
INSERT INTO log_records (partition, "offset", received_at, kind, key, traceparent, context, body)
SELECT r.partition, h.base + r.rank, r.received_at, r.kind, r.key, nullif(r.traceparent, ''), '', r.body
FROM ranked r JOIN heads h USING (partition)`;

// The running sum stops the read once the bodies before a record exceed the bound, so the first record always comes.
const READ = `
SELECT f.partition, r."offset", r.kind, r.received_at, r.key, r.traceparent, r.context, r.body
FROM unnest($1::smallint[], $2::bigint[]) AS f (partition, position)
CROSS JOIN LATERAL (
  SELECT *, sum(length(body)) OVER (ORDER BY "offset") - length(body) AS before FROM (
    SELECT * FROM log_records l WHERE l.partition = f.partition AND l."offset" > f.position ORDER BY l."offset" LIMIT $3
  ) page
) r WHERE r.before < $4 ORDER BY f.partition, r."offset"`;

const ACQUIRE = `
UPDATE log_positions p SET owner = $1, fence = p.fence + 1, lease_until = now_ms() + $3
FROM (
  SELECT partition FROM log_positions
  WHERE partition = ANY ($2::smallint[]) AND ($4::boolean OR owner IS NULL OR owner = $1 OR lease_until < now_ms())
  ORDER BY partition LIMIT $5 FOR UPDATE SKIP LOCKED
) free WHERE p.partition = free.partition
RETURNING p.partition, p.fence, p.position`;

const RENEW = `
UPDATE log_positions SET lease_until = now_ms() + $2
WHERE owner = $1 AND lease_until >= now_ms() AND partition = ANY ($3::smallint[]) RETURNING partition, fence`;

const RELEASE = `
UPDATE log_positions SET owner = NULL, lease_until = 0
WHERE owner = $1 AND ($2::smallint[] IS NULL OR partition = ANY ($2::smallint[]))`;

const ADVANCE = `
WITH ${LOCK_POSITIONS}
UPDATE log_positions p SET position = m.target FROM mine m WHERE p.partition = m.partition RETURNING p.partition`;

const STATE = `
SELECT h.partition, h.head, p.position, ${EPOCH} AS epoch FROM log_heads h JOIN log_positions p USING (partition) ORDER BY h.partition`;

const COMPLETE_UNTIL = `
SELECT least(now_ms(), (
  SELECT min(r.received_at) FROM log_positions p
  CROSS JOIN LATERAL (SELECT received_at FROM log_records l WHERE l.partition = p.partition AND l."offset" > p.position
                      ORDER BY l."offset" LIMIT 1) r
)) - $1::bigint AS until`;

const TRIM = `
DELETE FROM log_records l USING (
  SELECT r.partition, r."offset" FROM log_positions p
  CROSS JOIN LATERAL (SELECT partition, "offset" FROM log_records x WHERE x.partition = p.partition AND x."offset" <= p.position
                      ORDER BY x."offset" LIMIT $1) r
) gone WHERE l.partition = gone.partition AND l."offset" = gone."offset"`;

const FORGET = `
DELETE FROM envelope_ids WHERE ctid = ANY (ARRAY(SELECT ctid FROM envelope_ids WHERE seen_at < $1 LIMIT $2))`;

const EMPTY_FRAME_SLOT = `SELECT empty_next_frame_slot($1) AS held`;

const DIGESTS = `
SELECT e.device_id, e.envelope_id, encode(e.digest, 'hex') AS digest
FROM unnest($1::text[], $2::text[]) AS t (device_id, envelope_id) JOIN envelope_ids e USING (device_id, envelope_id)`;

/**
 * The log over `db`. Rejects with `store-unavailable` when PostgreSQL is away. `remember`: for a process with a worker, which
 * then gets what was appended here without reading it back.
 */
export function createLog(db: Database, { remember = false }: { readonly remember?: boolean } = {}): Log {
  const tail = remember ? createTail() : null;
  return {
    partitions: PARTITIONS,
    append: (envelopes) => append(db, tail, envelopes),
    appendKeyed,
    read: (from, limit, maxBytes) => readOn(db, tail, from, limit, maxBytes),
    state: () => state(db, tail),
    completeUntil: async (marginMs = COMMIT_MARGIN_MS) =>
      (await db.query<{ until: number }>(COMPLETE_UNTIL, [marginMs]))[0]?.until ?? 0,
    acquire: (owner, { among, most, ttlMs, seize }) =>
      db.query<Lease>(ACQUIRE, [owner, among, ttlMs, seize, most], 'log-acquire'),
    renew: (owner, ttlMs, partitions) =>
      db.query<Pick<Lease, 'partition' | 'fence'>>(RENEW, [owner, ttlMs, partitions], 'log-renew'),
    release: async (owner, partitions) => void (await db.execute(RELEASE, [owner, partitions ?? null])),
    advance,
    trim: () => db.execute(TRIM, [TRIM_ROWS], 'log-trim'),
    forget: (before) => db.execute(FORGET, [before, FORGET_ROWS]),
    forgetFrames: async (now) => (await db.query<{ held: boolean }>(EMPTY_FRAME_SLOT, [now]))[0]?.held === true,
  };
}

async function advance(sql: Sql, batches: readonly BatchCommit[]): Promise<number[]> {
  return (await sql.query<{ partition: number }>(ADVANCE, batchColumns(batches), 'log-advance')).map(
    (row) => row.partition,
  );
}

async function append(db: Database, tail: Tail | null, envelopes: readonly EnvelopeAppend[]): Promise<AppendOutcome[]> {
  const { unique, order } = distinct(envelopes);
  const withFrames = unique.some(isFrame);
  const [row] = await db.query<AppendRow>(
    withFrames ? APPEND_WITH_FRAMES : APPEND,
    [
      unique.map((e) => e.deviceId),
      unique.map((e) => e.envelopeId),
      unique.map((e) => e.digest.toString('hex')),
      unique.map((e) => e.partition),
      unique.map((e) => e.kind),
      unique.map((e) => e.receivedAt),
      unique.map((e) => e.traceparent ?? ''),
      unique.map((e) => formatContext(e.context)),
      unique.map((e) => e.body),
    ],
    withFrames ? 'log-append-frames' : 'log-append',
  );
  if (row === undefined) throw new TypeError('an append has no answer');
  const kept = keptOf(unique, row);
  tail?.add(row.epoch, recordsOf(kept, row));
  if (kept.length === envelopes.length) return envelopes.map(() => 'accepted');
  const accepted = new Set(kept);
  const stored = await storedDigests(
    db,
    unique.filter((envelope) => !accepted.has(envelope) && !isFrame(envelope)),
  );
  return order.map((first, index) => {
    const envelope = envelopes[index];
    if (envelope === first && accepted.has(first)) return 'accepted';
    if (isFrame(first)) return 'replay';
    const digest = accepted.has(first) ? first.digest.toString('hex') : stored.get(identity(first));
    return digest === envelope?.digest.toString('hex') ? 'replay' : 'id-conflict';
  });
}

/** What an append answers: how many it kept, which (null: all; numbers from 1), and offsets before the first of each partition. */
interface AppendRow {
  kept: number;
  epoch: string;
  /** `<partition> <offset>`, joined by commas; null when nothing was kept. */
  bases: string | null;
  numbers: string | null;
}

function keptOf(unique: readonly EnvelopeAppend[], { kept, numbers }: AppendRow): readonly EnvelopeAppend[] {
  if (kept === unique.length) return unique;
  const wanted = new Set(numbers?.split(',').map(Number));
  return unique.filter((_envelope, index) => wanted.has(index + 1));
}

/** The records that were written, numbered within each partition in the order given, as the statement numbers them. */
function recordsOf(kept: readonly EnvelopeAppend[], { bases, epoch }: AppendRow): LogRecord[] {
  const heads = new Map((bases ?? '').split(',').map((pair) => pair.split(' ').map(Number) as [number, number]));
  return kept.map((envelope) => {
    const { partition, kind, receivedAt, deviceId, traceparent, context, body } = envelope;
    const offset = (heads.get(partition) ?? 0) + 1;
    heads.set(partition, offset);
    const record = { partition, offset, kind, receivedAt, key: deviceId, traceparent, context, body, epoch };
    return envelope.envelope === undefined ? record : { ...record, envelope: envelope.envelope };
  });
}

/** One envelope for each identity, in the order given; and for each input the one that stands for it. */
function distinct(envelopes: readonly EnvelopeAppend[]): { unique: EnvelopeAppend[]; order: EnvelopeAppend[] } {
  const first = new Map<string, EnvelopeAppend>();
  const order = envelopes.map((envelope) => {
    const name = isFrame(envelope) ? `frame ${identity(envelope)}` : identity(envelope);
    const known = first.get(name);
    if (known !== undefined) return known;
    first.set(name, envelope);
    return envelope;
  });
  return { unique: [...first.values()], order };
}

function isFrame({ kind }: EnvelopeAppend): boolean {
  return kind === 'frame';
}

function identity(envelope: { readonly deviceId: string; readonly envelopeId: string }): string {
  return `${envelope.deviceId} ${envelope.envelopeId}`;
}

async function storedDigests(db: Database, envelopes: readonly EnvelopeAppend[]): Promise<Map<string, string>> {
  if (envelopes.length === 0) return new Map();
  const rows = await db.query<{ device_id: string; envelope_id: string; digest: string }>(DIGESTS, [
    envelopes.map((e) => e.deviceId),
    envelopes.map((e) => e.envelopeId),
  ]);
  return new Map(rows.map((row) => [identity({ deviceId: row.device_id, envelopeId: row.envelope_id }), row.digest]));
}

async function appendKeyed(sql: Sql, records: readonly KeyedAppend[]): Promise<void> {
  if (records.length === 0) return;
  await sql.execute(APPEND_KEYED, keyedColumns(records), 'log-append-keyed');
}

interface RecordRow {
  partition: number;
  offset: number;
  kind: LogKind;
  received_at: number;
  key: string;
  traceparent: string | null;
  context: string;
  body: string;
}

async function state(db: Database, tail: Tail | null): Promise<PartitionState[]> {
  const rows = await db.query<PartitionState & { epoch: string }>(STATE, [], 'log-state');
  tail?.trust(rows[0]?.epoch ?? '');
  return rows.map(({ partition, head, position }) => ({ partition, head, position }));
}

/** From memory where the partition's records are there, else from the store. */
async function readOn(
  db: Database,
  tail: Tail | null,
  from: readonly ReadFrom[],
  limit: number,
  maxBytes: number,
): Promise<LogRecord[]> {
  if (tail === null) return read(db, from, limit, maxBytes);
  const remembered = from.map(({ partition, position }) => tail.read(partition, position, limit, maxBytes));
  const others = from.filter((_from, index) => remembered[index] === null);
  const asked = others.length === 0 ? [] : await read(db, others, limit, maxBytes);
  return [...remembered.flatMap((records) => records ?? []), ...asked].sort((a, b) => a.partition - b.partition);
}

async function read(db: Database, from: readonly ReadFrom[], limit: number, maxBytes: number): Promise<LogRecord[]> {
  const columns = [from.map(({ partition }) => partition), from.map(({ position }) => position)];
  const rows = await db.query<RecordRow>(READ, [...columns, limit, maxBytes], 'log-read');
  return rows.map((row) => ({
    partition: row.partition,
    offset: row.offset,
    kind: row.kind,
    receivedAt: row.received_at,
    key: row.key,
    traceparent: row.traceparent,
    context: parseContext(row.context.split(' ')),
    body: row.body,
  }));
}
