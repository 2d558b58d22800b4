/**
 * A pool of connections to PostgreSQL (over `pg`): the only implementation of `store/ports/database.ts`.
 *
 * Guarantees: bigint arrives as a number, by parsers of this pool alone; `transaction` resolves only after PostgreSQL
 * has answered COMMIT with COMMIT (a swallowed error inside `work` ends in `transaction-aborted`, never in silence).
 * A connection that failed, timed out or could not roll back is reset (what it had not sent yet is dropped, not delivered
 * later) and never lent again; the pool makes new ones, so it recovers by itself once the server is back. Every statement
 * and every COPY ends, also on a link that is dead in silence: after the wait for a connection, the statement's own limit
 * and {@link READ_GRACE_MS}. The server is asked to find dead clients too, so that they hold no locks.
 * Failure: lost connections, time limits, a full or ending server are a CodedError `store-unavailable` (after a COMMIT
 * was sent the outcome is then unknown); every other answer of PostgreSQL arrives unchanged.
 */
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TLSSocket } from 'node:tls';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { CodedError } from '../lib/coded-error.ts';
import type { Database, Transaction } from './ports/database.ts';

/** Where a database is: a `postgres://` URL, or its parts (`host` may be the folder of a Unix socket). */
export type DatabaseConnection =
  | string
  | {
      readonly host: string;
      readonly port: number;
      readonly user: string;
      readonly password: string;
      readonly database: string;
    };

/** Bounds of a pool. Times in milliseconds, 0 = none. */
export interface PoolOptions {
  /** Most connections at once, besides one for {@link Database.answers}. Default 10. */
  readonly maxConnections?: number;
  /** Longest statement, by the server's clock. Default 15,000. */
  readonly statementTimeoutMs?: number;
  /** Longest wait for a lock. Default 5,000. */
  readonly lockTimeoutMs?: number;
  /** Longest silence inside a transaction. Default 30,000. */
  readonly idleInTransactionTimeoutMs?: number;
  /** Longest wait for a connection, free or new. Default 5,000. */
  readonly connectionTimeoutMs?: number;
  /** Shown in pg_stat_activity. Default `tocsin`. */
  readonly applicationName?: string;
}

/** A server that has not answered this long after its own statement timeout is frozen or unreachable. */
const READ_GRACE_MS = 2_000;
/** Silence after which TCP asks an idle link whether it is alive; given up 10 s later (libuv: 10 questions, one a second). */
const KEEP_ALIVE_MS = 5_000;
/**
 * The same from the server's side: without an answer of TCP it ends the session, and with it the session's locks
 * (https://www.postgresql.org/docs/15/runtime-config-connection.html#GUC-TCP-USER-TIMEOUT). No effect on Unix sockets.
 */
const SERVER_OPTIONS =
  '-c tcp_user_timeout=10000 -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=5';
/** A connection is exchanged at this age, so that after a failover none stays at the old server for ever. */
const MOST_AGE_SECONDS = 600;
/** Pieces of a COPY are gathered to about this many characters, so that each is not its own protocol message. */
const COPY_CHUNK_CHARACTERS = 64 * 1024;
const INT8 = 20;
const INT8_ARRAY = 1016;

/** Opens a pool. Nothing is connected until the first statement. */
export function openDatabase(connection: DatabaseConnection, options: PoolOptions = {}): Database {
  const pool = createPool(connection, options, options.maxConnections ?? 10);
  // Of its own, so that a busy pool does not make a healthy store look dead.
  const probes = createPool(connection, options, 1);
  let closing: Promise<void> | undefined;

  const run = async (text: string, values?: readonly unknown[], name?: string): Promise<pg.QueryResult> => {
    const client = await borrow(pool);
    try {
      const result = await send(client, text, values, name);
      client.release();
      return result;
    } catch (error) {
      giveBack(client, breaksConnection(error));
      throw error;
    }
  };

  return {
    query: async <Row extends object>(text: string, values?: readonly unknown[], name?: string) =>
      (await run(text, values, name)).rows as Row[],
    execute: async (text, values, name) => (await run(text, values, name)).rowCount ?? 0,
    transaction: async (work) => transact(await borrow(pool), work),
    answers: (timeoutMs) => probe(probes, timeoutMs),
    close: () => {
      closing ??= Promise.all([pool.end(), probes.end()]).then(() => undefined);
      return closing;
    },
  };
}

function createPool(connection: DatabaseConnection, options: PoolOptions, max: number): pg.Pool {
  const statementTimeout = options.statementTimeoutMs ?? 15_000;
  const pool = new pg.Pool({
    ...(typeof connection === 'string'
      ? { connectionString: withServerOptions(connection) }
      : { ...connection, options: SERVER_OPTIONS }),
    max,
    application_name: options.applicationName ?? 'tocsin',
    connectionTimeoutMillis: options.connectionTimeoutMs ?? 5_000,
    statement_timeout: statementTimeout,
    lock_timeout: options.lockTimeoutMs ?? 5_000,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs ?? 30_000,
    query_timeout: statementTimeout === 0 ? 0 : statementTimeout + READ_GRACE_MS,
    idleTimeoutMillis: 30_000,
    maxLifetimeSeconds: MOST_AGE_SECONDS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    types: { getTypeParser: typeParser },
  });
  // Both kinds of 'error' event say that a connection is gone; whoever uses it next, or now, is told by its own promise.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

/** What the URL itself gives as `options` comes last, so it wins. */
function withServerOptions(text: string): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  const given = url.searchParams.get('options');
  url.searchParams.set('options', given === null ? SERVER_OPTIONS : `${SERVER_OPTIONS} ${given}`);
  return url.href;
}

const readInt8Array = (pg.types.getTypeParser as (oid: number) => (value: string) => (string | null)[])(INT8_ARRAY);

/** As `pg` does it, but int8 becomes a number (all of ours are below 2^53). */
const typeParser = ((oid: number, format?: 'text' | 'binary'): unknown => {
  if (format !== 'binary') {
    if (oid === INT8) return Number;
    if (oid === INT8_ARRAY) {
      return (value: string) => readInt8Array(value).map((entry) => (entry === null ? null : Number(entry)));
    }
  }
  return pg.types.getTypeParser(oid, format);
}) as typeof pg.types.getTypeParser;

async function borrow(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    throw toStoreError(error);
  }
}

async function send(
  client: pg.PoolClient,
  text: string,
  values?: readonly unknown[],
  name?: string,
): Promise<pg.QueryResult> {
  try {
    const result: pg.QueryResult | pg.QueryResult[] = await client.query({
      text,
      ...(values === undefined ? {} : { values: values as unknown[] }),
      ...(name === undefined ? {} : { name }),
    });
    // A text of several statements answers with a list; the last one counts.
    return Array.isArray(result) ? (result.at(-1) as pg.QueryResult) : result;
  } catch (error) {
    throw toStoreError(error);
  }
}

async function transact<Result>(client: pg.PoolClient, work: (sql: Transaction) => Promise<Result>): Promise<Result> {
  let broken = false;
  let tail: Promise<unknown> = Promise.resolve();
  // One after the other, also when `work` does not wait: COMMIT and ROLLBACK come after everything that was begun.
  const inTurn = <Answer>(step: () => Promise<Answer>): Promise<Answer> => {
    const mine = tail.then(step);
    tail = mine.catch((error: unknown) => {
      broken ||= breaksConnection(error);
    });
    return mine;
  };
  const sql: Transaction = {
    query: async <Row extends object>(text: string, values?: readonly unknown[], name?: string) =>
      (await inTurn(() => send(client, text, values, name))).rows as Row[],
    execute: async (text, values, name) => (await inTurn(() => send(client, text, values, name))).rowCount ?? 0,
    copyIn: (text, chunks) => inTurn(() => copy(client, text, chunks)),
  };
  try {
    await inTurn(() => send(client, 'BEGIN'));
    const result = await work(sql);
    const end = await inTurn(() => send(client, 'COMMIT'));
    if (end.command !== 'COMMIT') {
      throw new CodedError('transaction-aborted', 'a statement of the transaction had failed; nothing was committed');
    }
    client.release();
    return result;
  } catch (error) {
    await tail;
    if (!broken) await inTurn(() => send(client, 'ROLLBACK')).catch(() => undefined);
    await tail;
    giveBack(client, broken);
    throw error;
  }
}

/**
 * Returns a connection, or ends it. An ordinary end would leave unsent bytes with the kernel, which goes on trying for
 * minutes: a statement given up long ago could still arrive when the link heals. A reset drops them (TCP without TLS).
 */
function giveBack(client: pg.PoolClient, broken: boolean): void {
  const { connection } = client as unknown as { readonly connection?: { readonly stream?: unknown } };
  const stream = connection?.stream;
  const plain = stream instanceof Socket && !(stream instanceof TLSSocket) && stream.remoteFamily !== undefined;
  if (broken && plain) stream.resetAndDestroy();
  client.release(broken);
}

/** Runs `COPY … FROM STDIN`; waits for the socket whenever it is full. */
async function copy(client: pg.PoolClient, text: string, chunks: Iterable<string>): Promise<void> {
  let fromCaller: unknown;
  const guarded = function* (): Generator<string> {
    try {
      yield* gather(chunks);
    } catch (error) {
      fromCaller = error;
      throw error;
    }
  };
  try {
    await pipeline(Readable.from(guarded()), client.query(copyFrom(text)));
  } catch (error) {
    // The stream's own failure comes back through the generator, so it is no different from the caller's.
    throw toStoreError(fromCaller ?? error);
  }
}

function* gather(chunks: Iterable<string>): Generator<string> {
  let gathered = '';
  for (const chunk of chunks) {
    gathered += chunk;
    if (gathered.length >= COPY_CHUNK_CHARACTERS) {
      yield gathered;
      gathered = '';
    }
  }
  if (gathered !== '') yield gathered;
}

/** False on a standby, and where somebody made the database read-only. */
const WRITABLE = `SELECT current_setting('transaction_read_only') = 'off' AS writable`;

async function probe(pool: pg.Pool, timeoutMs: number): Promise<boolean> {
  let late = false;
  let client: pg.PoolClient | undefined;
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<false>((resolve) => {
    timer = setTimeout(() => {
      late = true;
      // It may hang on a dead server: the next probe makes a new one.
      if (client !== undefined) giveBack(client, true);
      resolve(false);
    }, timeoutMs);
  });
  const ask = async (): Promise<boolean> => {
    const lent = await pool.connect();
    if (late) {
      lent.release();
      return false;
    }
    client = lent;
    const writable = await lent.query<{ writable: boolean }>(WRITABLE).then(
      ({ rows }) => rows[0]?.writable,
      () => undefined,
    );
    // A server that has become a standby is left, too: the name may lead elsewhere by now.
    if (!late) giveBack(lent, writable !== true);
    return writable === true;
  };
  try {
    return await Promise.race([ask().catch(() => false), deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** SQLSTATEs (or their classes) by which PostgreSQL says that it cannot serve now, not that the statement is wrong. */
const UNAVAILABLE_STATES = /^(08...|53...|57P0.|57014|55P03|25P03|25006|58030)$/;
/** Of those, the ones after which the connection is still good. */
const KEEPS_CONNECTION = /^(57014|55P03|53100|53200|58030)$/;
const UNAVAILABLE_SYSTEM_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ENOENT',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EMFILE',
]);
/** Errors that `pg` and `pg-pool` make themselves carry no code, only these texts. */
const UNAVAILABLE_MESSAGES =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed|Cannot use a pool after calling end|Connection ended unexpectedly)/;

/** A CodedError `store-unavailable` where the store is away or late; everything else as it is. */
function toStoreError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof CodedError) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const away =
    error instanceof pg.DatabaseError
      ? UNAVAILABLE_STATES.test(code)
      : UNAVAILABLE_SYSTEM_CODES.has(code) || UNAVAILABLE_MESSAGES.test(error.message);
  if (!away) return error;
  // An AggregateError (several addresses tried) has an empty message.
  const reason = error.message === '' ? code : error.message;
  return new CodedError('store-unavailable', `the store does not answer: ${reason}`, { cause: error });
}

/** True when the connection that gave this error must not be used again. */
function breaksConnection(error: unknown): boolean {
  const cause = error instanceof CodedError ? error.cause : error;
  if (!(cause instanceof pg.DatabaseError)) return true;
  const code = cause.code ?? '';
  return UNAVAILABLE_STATES.test(code) && !KEEPS_CONNECTION.test(code);
}
