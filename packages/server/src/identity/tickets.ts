/**
 * Tickets: what a browser shows in a WebSocket URL in place of its token.
 *
 * Guarantees: one use, 30 s, known to the store by hash only; it stands for the session and role of the token it was asked
 * with and never outlives that token. Failure: `token-invalid`, `session-revoked`, `rate-limited`.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { RefusalError, refuse } from '@tocsin/protocol/refusal-error';
import type { BucketShape, Limiter } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { TicketStore, UserRole } from '../store/ports/identity.ts';
import type { Principal } from './principal.ts';
import { looksLikeSecret, newSecret, sha256 } from './secrets.ts';
import type { SessionState } from './session-state.ts';
import { PERSON_SCOPE } from './sign-in.ts';

/** A session's tickets: more than any dashboard opens, less than what would fill a table. */
const SHAPE: BucketShape = { ratePerSecond: 1, burst: 60 };

/** Whose ticket it is to be. `expiresAt`: end of the token it is asked with, Unix ms. */
export interface TicketHolder {
  readonly id: string;
  readonly role: UserRole;
  readonly sessionId: string;
  readonly expiresAt: number;
}

/** A new ticket. */
export interface IssuedTicket {
  readonly ticket: string;
  readonly expiresInSeconds: number;
}

/** Tickets as a service. */
export interface Tickets {
  issue(holder: TicketHolder): Promise<IssuedTicket>;
  /** Who holds the ticket; afterwards it is used up. */
  redeem(ticket: string): Promise<Principal>;
}

/** What {@link createTickets} needs. */
export interface TicketOptions {
  readonly store: TicketStore;
  readonly state: Pick<SessionState, 'alive'>;
  readonly limiter: Limiter;
  readonly clock: Clock;
}

/** Builds the service of tickets. */
export function createTickets({ store, state, limiter, clock }: TicketOptions): Tickets {
  return {
    async issue({ id, role, sessionId, expiresAt }) {
      const answer = await limiter.take(`ticket:${sessionId}`, SHAPE);
      if (!answer.allowed) {
        throw new RefusalError({ code: 'rate-limited', detail: 'Too many tickets', retryAfterMs: answer.retryAfterMs });
      }
      const ticket = newSecret();
      const until = clock.now() + LIMITS.ticketMs.value;
      await store.insert({
        hash: sha256(ticket),
        sessionId,
        userId: id,
        role,
        tokenExpiresAt: expiresAt,
        expiresAt: until,
      });
      return { ticket, expiresInSeconds: LIMITS.ticketMs.value / 1000 };
    },
    async redeem(ticket) {
      const row = looksLikeSecret(ticket) ? await store.take(sha256(ticket)) : null;
      if (row === null) throw refuse('token-invalid', 'The ticket is not known or was used');
      if (clock.now() >= Math.min(row.expiresAt, row.tokenExpiresAt))
        throw refuse('token-expired', 'The ticket has expired');
      if (!(await state.alive(row.sessionId))) throw refuse('session-revoked');
      const { userId: subject, role, sessionId, tokenExpiresAt: expiresAt } = row;
      const tokenId = `ticket.${row.hash.toString('base64url').slice(0, 22)}`;
      return { kind: 'user', subject, deviceId: null, role, scope: PERSON_SCOPE, sessionId, tokenId, expiresAt };
    },
  };
}
