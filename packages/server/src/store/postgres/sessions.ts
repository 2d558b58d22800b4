/** Sessions and refresh tokens in PostgreSQL (tables `sessions`, `refresh_tokens`). */
import type { Database } from '../ports/database.ts';
import type { RefreshTokenRow, SessionRow, SessionStore } from '../ports/identity.ts';

const SESSION = `s.id, s.subject, s.user_id AS "userId", s.device_id AS "deviceId", s.scope,
  s.fingerprint_hash AS "fingerprintHash", s.created_at AS "createdAt", s.expires_at AS "expiresAt",
  s.revoked_at AS "revokedAt", s.revoked_reason AS "revokedReason"`;

const REFRESH_TOKEN = `hash, session_id AS "sessionId", issued_at AS "issuedAt", expires_at AS "expiresAt",
  used_at AS "usedAt", successor`;

const REVOKE = 'UPDATE sessions SET revoked_at = $2, revoked_reason = $3 WHERE revoked_at IS NULL AND';

interface Id {
  readonly id: string;
}

const toId = (row: Id): string => row.id;

/** Builds the {@link SessionStore}. */
export function createSessionStore(db: Database): SessionStore {
  return {
    async insert(sql, session) {
      await sql.execute(
        `INSERT INTO sessions (id, subject, user_id, device_id, scope, fingerprint_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
        [
          session.id,
          session.subject,
          session.userId,
          session.deviceId,
          session.scope,
          session.fingerprintHash,
          session.createdAt,
          session.expiresAt,
        ],
      );
    },
    async insertRefreshToken(sql, token) {
      await sql.execute(
        'INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)',
        [token.hash, token.sessionId, token.issuedAt, token.expiresAt],
      );
    },
    async lockByRefreshToken(sql, hash) {
      const rows = await sql.query<SessionRow>(
        `SELECT ${SESSION} FROM sessions s WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE hash = $1) FOR UPDATE`,
        [hash],
      );
      return rows[0] ?? null;
    },
    async refreshToken(sql, hash) {
      const rows = await sql.query<RefreshTokenRow>(`SELECT ${REFRESH_TOKEN} FROM refresh_tokens WHERE hash = $1`, [
        hash,
      ]);
      return rows[0] ?? null;
    },
    async markUsed(sql, hash, usedAt, successor) {
      await sql.execute('UPDATE refresh_tokens SET used_at = $2, successor = $3 WHERE hash = $1', [
        hash,
        usedAt,
        successor,
      ]);
    },
    revoke: async (sql, ids, at, reason) =>
      (await sql.query<Id>(`${REVOKE} id = ANY ($1::text[]) RETURNING id`, [ids, at, reason])).map(toId),
    revokeOfUser: async (sql, userId, at, reason) =>
      (await sql.query<Id>(`${REVOKE} user_id = $1 RETURNING id`, [userId, at, reason])).map(toId),
    revokeOfDevice: async (sql, deviceId, at, reason) =>
      (await sql.query<Id>(`${REVOKE} device_id = $1 RETURNING id`, [deviceId, at, reason])).map(toId),
    async dead(ids, now) {
      const rows = await db.query<Id>(
        `SELECT t.id FROM unnest($1::text[]) AS t (id)
         WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = t.id AND s.revoked_at IS NULL AND s.expires_at > $2)`,
        [ids, now],
        'sessions-dead',
      );
      return rows.map(toId);
    },
    deleteEnded: (before, limit) =>
      db.execute(
        `DELETE FROM sessions WHERE id IN
           (SELECT id FROM sessions WHERE expires_at < $1 OR revoked_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        [before, limit],
      ),
    deleteExpiredRefreshTokens: (before, limit) =>
      db.execute(
        `DELETE FROM refresh_tokens WHERE hash IN
           (SELECT hash FROM refresh_tokens WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        [before, limit],
      ),
  };
}
