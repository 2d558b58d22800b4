/** Users in PostgreSQL (table `users`; `installation` for what happens once). */
import type { Database, Sql } from '../ports/database.ts';
import type { UserRow, UserStore } from '../ports/identity.ts';

const COLUMNS = `id, email, password_hash AS "passwordHash", role, created_at AS "createdAt", disabled_at AS "disabledAt"`;

/** Builds the {@link UserStore}. */
export function createUserStore(db: Database): UserStore {
  return {
    async insert(sql, user) {
      const rows = await sql.execute(
        `INSERT INTO users (id, email, password_hash, role, created_at, disabled_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (email) DO NOTHING`,
        [user.id, user.email, user.passwordHash, user.role, user.createdAt, user.disabledAt],
      );
      return rows === 1;
    },
    byId: (sql, id) => one(sql, `SELECT ${COLUMNS} FROM users WHERE id = $1`, [id]),
    byEmail: (email) => one(db, `SELECT ${COLUMNS} FROM users WHERE email = $1`, [email]),
    list: (before, limit) =>
      db.query<UserRow>(`SELECT ${COLUMNS} FROM users WHERE $1::text IS NULL OR id < $1 ORDER BY id DESC LIMIT $2`, [
        before,
        limit,
      ]),
    update: (sql, id, change) =>
      one(
        sql,
        `UPDATE users SET email = coalesce($2, email), password_hash = coalesce($3, password_hash),
           role = coalesce($4, role), disabled_at = CASE WHEN $5::boolean THEN $6::bigint ELSE disabled_at END
         WHERE id = $1 RETURNING ${COLUMNS}`,
        [
          id,
          change.email ?? null,
          change.passwordHash ?? null,
          change.role ?? null,
          change.disabledAt !== undefined,
          change.disabledAt ?? null,
        ],
      ),
    remove: async (sql, id) => (await sql.execute('DELETE FROM users WHERE id = $1', [id])) === 1,
    async lockAdmins(sql) {
      const rows = await sql.query<{ id: string }>(
        `SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY id FOR UPDATE`,
      );
      return rows.map((row) => row.id);
    },
    async claim(sql, name, value) {
      const rows = await sql.execute(
        'INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING',
        [name, value],
      );
      return rows === 1;
    },
    claimed: async (name) => (await db.query('SELECT 1 FROM installation WHERE name = $1', [name])).length === 1,
  };
}

async function one(sql: Sql, text: string, values: readonly unknown[]): Promise<UserRow | null> {
  return (await sql.query<UserRow>(text, values))[0] ?? null;
}
