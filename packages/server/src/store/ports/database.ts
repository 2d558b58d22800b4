/**
 * The door to PostgreSQL that the nouns' SQL goes through. The only implementation is `store/pool.ts` (over `pg`).
 *
 * Guarantees: bigint arrives as a number (all of ours are below 2^53), bytea as Buffer. A statement with a `name` is
 * prepared once for each connection.
 * Failure: a {@link CodedError} `store-unavailable` when the server is away or does not answer in time; everything
 * else that PostgreSQL says arrives as it is (with its five-character `code`).
 */

/** Runs statements. */
export interface Sql {
  /** Rows of a statement. */
  query<Row extends object>(text: string, values?: readonly unknown[], name?: string): Promise<Row[]>;
  /** Runs a statement; answers how many rows it touched. */
  execute(text: string, values?: readonly unknown[], name?: string): Promise<number>;
}

/** A transaction in progress, on one connection. */
export interface Transaction extends Sql {
  /** `COPY … FROM STDIN` with the chunks given (text format). */
  copyIn(text: string, chunks: Iterable<string>): Promise<void>;
}

/** A pool of connections. */
export interface Database extends Sql {
  /** BEGIN, `work`, COMMIT; ROLLBACK when `work` rejects. READ COMMITTED. */
  transaction<Result>(work: (sql: Transaction) => Promise<Result>): Promise<Result>;
  /** True when the server answers within `timeoutMs` and takes writes. */
  answers(timeoutMs: number): Promise<boolean>;
  close(): Promise<void>;
}
