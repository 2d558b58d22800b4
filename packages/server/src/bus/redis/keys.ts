/**
 * Every key and channel that we use in Redis: one table, from which the builders of keys are made and `docs/redis.md` is
 * written. Nothing else builds a key. Pure.
 *
 * Order in a pattern: the namespace of the source document ("Separação lógica de Redis"), what it is, and in braces the hash
 * tag, so that on a Cluster everything that one script touches lies in one slot (Redis Cluster specification, "Hash tags").
 * Failure: a cell whose key has no row in the table is a RangeError, so that the table stays whole.
 */

/** One kind of key or channel. `<name>` in the pattern is what a caller gives. */
export interface KeyRow {
  readonly namespace: string;
  readonly pattern: string;
  readonly type: 'string' | 'hash' | 'sorted set' | 'stream' | 'channel';
  readonly holds: string;
  readonly expiry: string;
  /** What the braces hold; keys with the same one share a slot. */
  readonly tag: string;
}

/** A namespace of the source document. `held` says where its truth is. */
export interface NamespaceRow {
  readonly namespace: string;
  readonly use: string;
  readonly held: string;
}

/** How long an instance's lease lasts, in ms; it is renewed each second. */
export const INSTANCE_LEASE_MS = 5000;
/** How long the set of instances outlives the last of them, in ms. */
export const INSTANCES_KEPT_MS = 60_000;
/** How long a board is kept after its last newcomer, in ms; holders renew it every ten minutes. */
export const BOARD_KEPT_MS = 3_600_000;

/** How long the ids of a day are kept from its first: that day, the seven that count, one for clocks that differ. */
export const LOG_IDS_KEPT_SECONDS = 777_600;

/**
 * How long the ids of frames of half an hour are kept from its first: that half hour, the hour that counts, some more for
 * clocks that differ.
 */
export const LOG_FRAMES_KEPT_SECONDS = 5700;

/** Names of the rows. */
export type KeyName =
  | 'bucket'
  | 'signInCell'
  | 'connectionCell'
  | 'instances'
  | 'board'
  | 'logRecords'
  | 'logHead'
  | 'logIds'
  | 'logFrames'
  | 'topic';

/** Every key and channel there is. */
export const KEYS: Readonly<Record<KeyName, KeyRow>> = {
  bucket: {
    namespace: 'rl',
    pattern: 'rl:{<bucket>}',
    type: 'string',
    holds: 'a token bucket: nano-tokens and the time of the last take (ms)',
    expiry: 'when it is full again',
    tag: 'the bucket',
  },
  signInCell: {
    namespace: 'rl',
    pattern: 'rl:cell:{<cell>}',
    type: 'string',
    holds: 'until when a door is closed after wrong sign-ins, and which pairs of account and address are known',
    expiry: 'with what it says',
    tag: 'the cell',
  },
  connectionCell: {
    namespace: 'session',
    pattern: 'session:cell:{<cell>}',
    type: 'string',
    holds: 'connects of a user that do not count, because we told the viewer to come back',
    expiry: '10 min',
    tag: 'the cell',
  },
  instances: {
    namespace: 'session',
    pattern: 'session:{instances}',
    type: 'sorted set',
    holds: 'leases of processes (instance and lease) with their ends (ms)',
    expiry: `${INSTANCES_KEPT_MS / 1000} s after the last renewal; an entry after ${INSTANCE_LEASE_MS / 1000} s`,
    tag: 'instances',
  },
  board: {
    namespace: 'session',
    pattern: 'session:board:{<board>}',
    type: 'sorted set',
    holds: 'who holds a place (instance, lease and connection), by the time of joining (µs)',
    expiry: `${BOARD_KEPT_MS / 3_600_000} h after the last newcomer; an entry counts while its lease lives`,
    tag: 'the board',
  },
  logRecords: {
    namespace: 'sig',
    pattern: 'sig:{<partition>}:records',
    type: 'stream',
    holds:
      'with `LOG_BACKEND=redis`: records of a partition of devices, by offset; its group `workers` follows the positions',
    expiry: 'none: a record goes once it is worked off',
    tag: 'the partition',
  },
  logHead: {
    namespace: 'sig',
    pattern: 'sig:{<partition>}:head',
    type: 'hash',
    holds: 'the newest offset, the floor under the next ones, whose they are, the position of the last trim',
    expiry: 'none',
    tag: 'the partition',
  },
  logIds: {
    namespace: 'sig',
    pattern: 'sig:{<partition>}:ids:<day>',
    type: 'hash',
    holds: 'ids and digests of the envelopes that arrived on a UTC day',
    expiry: `${LOG_IDS_KEPT_SECONDS / 86_400} d after the first; sooner by the daily upkeep, never before 7 d`,
    tag: 'the partition',
  },
  logFrames: {
    namespace: 'sig',
    pattern: 'sig:{<partition>}:frames:<half hour>',
    type: 'hash',
    holds: 'ids of the frames of MQTT that arrived in half an hour (UTC), each with an empty value',
    expiry: `${LOG_FRAMES_KEPT_SECONDS / 60} min after the first`,
    tag: 'the partition',
  },
  topic: {
    namespace: 'bus',
    pattern: 'bus:{<topic>}',
    type: 'channel',
    holds: 'messages and probes, sealed; sharded on a Cluster',
    expiry: 'none: nothing is kept',
    tag: 'the topic',
  },
};

/** Which row keeps the cells whose keys begin so. */
const CELL_PREFIXES: readonly (readonly [string, KeyRow])[] = [
  ['sign-in:', KEYS.signInCell],
  ['ws:free:', KEYS.connectionCell],
];

/** The namespaces that the source document lists. */
export const NAMESPACES: readonly NamespaceRow[] = [
  {
    namespace: 'session',
    use: 'sessions',
    held: 'Redis: who is connected, where. The sessions themselves: PostgreSQL',
  },
  {
    namespace: 'refresh',
    use: 'refresh tokens',
    held: 'PostgreSQL: a token used twice must be noticed, also after a failover',
  },
  {
    namespace: 'revoked',
    use: 'revocation',
    held: 'PostgreSQL, told to all processes on the bus: a revocation must not be forgotten',
  },
  { namespace: 'metrics', use: 'metrics', held: 'PostgreSQL, as readings with rollups' },
  { namespace: 'sig', use: 'signals', held: 'the log: PostgreSQL, or Redis Streams with `LOG_BACKEND=redis`' },
  { namespace: 'nonce', use: 'challenges of attestation', held: 'nowhere: not in this release' },
  {
    namespace: 'force_overlay',
    use: 'kill-switch',
    held: 'nowhere: not in this release; an order to a device must arrive, so it will be PostgreSQL',
  },
  { namespace: 'rl', use: 'rate limits', held: 'Redis; each process on its own while Redis is away' },
];

/** Makes the builder of a row with one `<name>` in its pattern. */
export function keyBuilder(row: KeyRow): (value: string) => string {
  const [before = '', after = '', ...rest] = row.pattern.split(/<[^>]+>/);
  if (rest.length > 0 || !row.pattern.includes('<')) throw new RangeError(`${row.pattern} has not one place`);
  return (value) => before + value + after;
}

/** The key of the token bucket `bucket`. */
export const bucketKey: (bucket: string) => string = keyBuilder(KEYS.bucket);
/** The key of the presence board `board`. */
export const boardKey: (board: string) => string = keyBuilder(KEYS.board);
/** The key of the leases of instances. */
export const INSTANCES_KEY: string = KEYS.instances.pattern;
/** The channel of the topic `topic`. */
export const topicChannel: (topic: string) => string = keyBuilder(KEYS.topic);

/** Builders of the keys of a partition of the log. */
export interface LogKeys {
  readonly head: string;
  readonly records: string;
  /** `day` as `2026-11-20`. */
  readonly ids: (day: string) => string;
  /** `halfHour` as `2026-11-20T14:30`. */
  readonly frames: (halfHour: string) => string;
}

/** The names of the keys of a partition of the log. */
export function logKeys(partition: number): LogKeys {
  const of = ({ pattern }: KeyRow): string => pattern.replace('<partition>', String(partition));
  const ids = of(KEYS.logIds);
  const frames = of(KEYS.logFrames);
  return {
    head: of(KEYS.logHead),
    records: of(KEYS.logRecords),
    ids: (day) => ids.replace('<day>', day),
    frames: (halfHour) => frames.replace('<half hour>', halfHour),
  };
}

const cellBuilders = CELL_PREFIXES.map(([prefix, row]) => ({ prefix, build: keyBuilder(row) }));

/**
 * The key of the cell `cell`.
 * @throws RangeError when no row keeps such cells.
 */
export function cellKey(cell: string): string {
  const found = cellBuilders.find(({ prefix }) => cell.startsWith(prefix));
  if (found === undefined) throw new RangeError('no row of the table of keys in Redis keeps such a cell');
  return found.build(cell);
}
