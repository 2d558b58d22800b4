/** API keys in PostgreSQL (table `api_keys`). Rows are never deleted and never brought back. */
import type { Database } from '../ports/database.ts';
import type { ApiKeyCounts, ApiKeyRow, ApiKeyStore } from '../ports/identity.ts';

const COLUMNS = `id, name, hash, scopes, created_at AS "createdAt", revoked_at AS "revokedAt"`;

/** Builds the {@link ApiKeyStore}. */
export function createApiKeyStore(db: Database): ApiKeyStore {
  return {
    async insert(sql, key) {
      const rows = await sql.execute(
        `INSERT INTO api_keys (id, name, hash, scopes, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (hash) DO NOTHING`,
        [key.id, key.name, key.hash, key.scopes, key.createdAt, key.revokedAt],
      );
      return rows === 1;
    },
    async counts() {
      const rows = await db.query<ApiKeyCounts>(
        'SELECT count(*)::bigint AS "all", count(revoked_at)::bigint AS revoked FROM api_keys',
        [],
        'api-keys-counts',
      );
      return rows[0] ?? { all: 0, revoked: 0 };
    },
    active: (limit) =>
      db.query<ApiKeyRow>(`SELECT ${COLUMNS} FROM api_keys WHERE revoked_at IS NULL ORDER BY id DESC LIMIT $1`, [
        limit,
      ]),
    list: (before, limit) =>
      db.query<ApiKeyRow>(
        `SELECT ${COLUMNS} FROM api_keys WHERE $1::text IS NULL OR id < $1 ORDER BY id DESC LIMIT $2`,
        [before, limit],
      ),
    byHash: async (hash) =>
      (await db.query<ApiKeyRow>(`SELECT ${COLUMNS} FROM api_keys WHERE hash = $1`, [hash]))[0] ?? null,
    revoke: async (id, at) =>
      (await db.execute('UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL', [id, at])) === 1,
  };
}
