/** WebSocket tickets in PostgreSQL (table `tickets`). */
import type { Database } from '../ports/database.ts';
import type { TicketRow, TicketStore } from '../ports/identity.ts';

/** Builds the {@link TicketStore}. */
export function createTicketStore(db: Database): TicketStore {
  return {
    async insert(ticket) {
      await db.execute(
        `INSERT INTO tickets (hash, session_id, user_id, role, token_expires_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)`,
        [ticket.hash, ticket.sessionId, ticket.userId, ticket.role, ticket.tokenExpiresAt, ticket.expiresAt],
      );
    },
    async take(hash) {
      const rows = await db.query<TicketRow>(
        `DELETE FROM tickets WHERE hash = $1 RETURNING hash, session_id AS "sessionId", user_id AS "userId", role,
           token_expires_at AS "tokenExpiresAt", expires_at AS "expiresAt"`,
        [hash],
      );
      return rows[0] ?? null;
    },
    deleteExpired: (before, limit) =>
      db.execute(
        `DELETE FROM tickets WHERE hash IN
           (SELECT hash FROM tickets WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        [before, limit],
      ),
  };
}
