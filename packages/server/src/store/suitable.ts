/**
 * Is the database at DATABASE_URL one that this code can work on: PostgreSQL 15 or later, UTF8, with PostGIS.
 *
 * PostGIS is created where it is missing, before the first migration that would use it. A database that was migrated
 * without it (a private one that was moved to a server, say) goes on as it is and says so: its answers are the same.
 * Safe when several processes start at once.
 * Failure: CodedError `store-unsuitable`, one line that says what to do; `store-unavailable`.
 */
import { CodedError } from '../lib/coded-error.ts';
import { MIGRATION_LOCK } from './migrate.ts';
import type { Database } from './ports/database.ts';

/** Oldest PostgreSQL that the SQL is written for (`server_version_num`). */
const OLDEST_VERSION = 150_000;

const FACTS = `
SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
  current_user AS role, current_database() AS name, to_regproc('geo_distance_m') IS NOT NULL AS migrated,
  EXISTS (SELECT FROM pg_extension WHERE extname = 'postgis') AS installed`;

interface Facts {
  readonly version: number;
  readonly encoding: string;
  readonly role: string;
  readonly name: string;
  /** Migration 0002 has decided on a form of geography. */
  readonly migrated: boolean;
  readonly installed: boolean;
}

/** Checks the database and completes it with PostGIS. */
export async function makeSuitable(db: Database): Promise<void> {
  const [facts] = await db.query<Facts>(FACTS);
  if (facts === undefined || facts.version < OLDEST_VERSION) {
    throw new CodedError('store-unsuitable', 'the database at DATABASE_URL is older than PostgreSQL 15');
  }
  if (facts.encoding !== 'UTF8') {
    throw new CodedError(
      'store-unsuitable',
      `the database at DATABASE_URL must be encoded in UTF8, not ${facts.encoding}`,
    );
  }
  if (!facts.installed && !facts.migrated) await installPostgis(db, facts);
}

async function installPostgis(db: Database, { role, name }: Facts): Promise<void> {
  try {
    await db.transaction(async (sql) => {
      // Two at once would collide even with IF NOT EXISTS.
      await sql.query(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
      await sql.execute('CREATE EXTENSION IF NOT EXISTS postgis');
    });
  } catch (error) {
    const problem = problemOf(error, role, name);
    if (problem === null) throw error;
    throw new CodedError('store-unsuitable', problem, { cause: error });
  }
}

function problemOf(error: unknown, role: string, name: string): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === '42501') {
    return `the role "${role}" may not create the extension postgis in the database "${name}": let an administrator run CREATE EXTENSION postgis there once, then start again`;
  }
  // feature_not_supported, undefined_file: not among the server's extensions, or a provider does not allow it.
  if (code === '0A000' || code === '58P01') {
    const detail = error instanceof Error ? error.message : '';
    return `the server of the database "${name}" has no PostGIS (${detail}): install it there (Debian: postgresql-<version>-postgis-3), then start again`;
  }
  return null;
}

/** What the operator should know about the form of geography; undefined when PostGIS is in use. */
export async function geographyNote(db: Database): Promise<string | undefined> {
  const [row] = await db.query<{ used: boolean }>(`SELECT to_regclass('devices_by_geography') IS NOT NULL AS used`);
  return row?.used === true
    ? undefined
    : 'the database was migrated without PostGIS: answers are the same; CREATE EXTENSION postgis, then SELECT use_postgis() change over';
}
