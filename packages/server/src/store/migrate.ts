/**
 * Migrations: the numbered `.sql` files of `packages/server/migrations`, one way forward.
 *
 * Guarantees: each file runs once, in order, in one transaction together with its row in `schema_migrations`; any number
 * of migrators may run at once (one works, the others wait and find the work done).
 * Failure: CodedError `migration-changed` (an applied file has other content now), `schema-newer` (the database knows
 * migrations that this code does not), `migration-failed` (naming the file); nothing of that file is then applied.
 */
import { createHash } from 'node:crypto';
import { access, readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CodedError } from '../lib/coded-error.ts';
import type { Database, Transaction } from './ports/database.ts';

/** A migration as it lies on disk. */
export interface Migration {
  /** File name, for example `0001_base.sql`. */
  readonly name: string;
  readonly text: string;
  /** SHA-256 of the text (line ends as LF), hex. */
  readonly hash: string;
}

/** What `migrate` needs of a file's name: four digits that order it. */
const FILE_NAME = /^\d{4}_[a-z0-9_]+\.sql$/;
/** Key of the advisory lock that migrators share ("tocsin" as base-36 digits); held to the end of a transaction. */
export const MIGRATION_LOCK = '1787270171';

/** Applies what is missing. Give it a database without a statement timeout: a migration may take long. */
export async function migrate(db: Database, migrations?: readonly Migration[]): Promise<{ applied: string[] }> {
  const wanted = migrations ?? (await readMigrations());
  const applied: string[] = [];
  for (;;) {
    const name = await db.transaction((sql) => applyNext(sql, wanted));
    if (name === undefined) return { applied };
    applied.push(name);
  }
}

/** The migrations of this code, in order. */
export async function readMigrations(): Promise<Migration[]> {
  const folder = await findMigrationsFolder();
  const names = (await readdir(folder)).filter((name) => FILE_NAME.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = (await readFile(join(folder, name), 'utf8')).replaceAll('\r\n', '\n');
      return { name, text, hash: createHash('sha256').update(text).digest('hex') };
    }),
  );
}

/** Walks up from this file, which lies in `src/store` or in `dist/src/store`. */
async function findMigrationsFolder(): Promise<string> {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let level = 0; level < 6; level += 1) {
    const candidate = join(folder, 'migrations');
    const found = await access(join(candidate, '0001_base.sql')).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
    folder = dirname(folder);
  }
  throw new CodedError('migrations-missing', 'the folder of migrations is missing from this installation');
}

/** Applies the first migration that the database lacks; answers its name, or undefined when there is none. */
async function applyNext(sql: Transaction, wanted: readonly Migration[]): Promise<string | undefined> {
  // Waiting for another migrator has no limit of time; it ends when that one commits or dies.
  await sql.query('SET LOCAL lock_timeout = 0');
  await sql.query('SET LOCAL statement_timeout = 0');
  await sql.query(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
  await sql.query(
    'CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, hash text NOT NULL, applied_at bigint NOT NULL)',
  );
  const rows = await sql.query<{ name: string; hash: string }>(
    'SELECT name, hash FROM schema_migrations ORDER BY name',
  );
  const next = nextMigration(rows, wanted);
  if (next === undefined) return undefined;
  try {
    await sql.execute(next.text);
  } catch (error) {
    if (error instanceof CodedError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CodedError('migration-failed', `migration ${next.name} failed: ${reason}`, { cause: error });
  }
  await sql.execute(
    `INSERT INTO schema_migrations (name, hash, applied_at)
     VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)`,
    [next.name, next.hash],
  );
  return next.name;
}

/** Which migration comes next. Throws when the database does not fit this code. */
export function nextMigration(
  done: readonly { readonly name: string; readonly hash: string }[],
  wanted: readonly Migration[],
): Migration | undefined {
  const hashes = new Map(done.map((row) => [row.name, row.hash]));
  for (const { name } of done) {
    if (!wanted.some((migration) => migration.name === name)) {
      throw new CodedError('schema-newer', `the database was migrated by a newer version of tocsin (it has ${name})`);
    }
  }
  for (const { name, hash } of wanted) {
    const before = hashes.get(name);
    if (before !== undefined && before !== hash) {
      throw new CodedError('migration-changed', `migration ${name} was changed after it had been applied`);
    }
  }
  return wanted.find((migration) => !hashes.has(migration.name));
}
