/** Signing keys in PostgreSQL (table `signing_keys`). */
import type { Database } from '../ports/database.ts';
import type { SigningKeyRow, SigningKeyStore } from '../ports/identity.ts';

/** Of the advisory lock that lets one process at a time rotate; any number that nobody else uses. */
const LOCK = 7_602_115;

/** Builds the {@link SigningKeyStore}. */
export function createSigningKeyStore(db: Database): SigningKeyStore {
  return {
    all: () =>
      db.query<SigningKeyRow>(
        `SELECT kid, purpose, algorithm, public_jwk AS "publicJwk", sealed, created_at AS "createdAt",
           retired_at AS "retiredAt" FROM signing_keys ORDER BY created_at, kid`,
      ),
    async insertCurrent(sql, key) {
      const rows = await sql.execute(
        `INSERT INTO signing_keys (kid, purpose, algorithm, public_jwk, sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (purpose, algorithm) WHERE retired_at IS NULL DO NOTHING`,
        [key.kid, key.purpose, key.algorithm, JSON.stringify(key.publicJwk), key.sealed, key.createdAt],
      );
      return rows === 1;
    },
    async retire(sql, purpose, at) {
      await sql.execute('UPDATE signing_keys SET retired_at = $2 WHERE purpose = $1 AND retired_at IS NULL', [
        purpose,
        at,
      ]);
    },
    async lock(sql) {
      await sql.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
    },
  };
}
