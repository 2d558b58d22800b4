/**
 * Sessions: one sign-in, with the family of its refresh tokens and its access tokens.
 *
 * Guarantees: the store knows refresh tokens by hash only; refreshes of one session happen one after the other; a revoked
 * session takes its access and refresh tokens with it, everywhere within a second. A session ends 90 days after sign-in,
 * and when it was not refreshed for 7 days.
 * Failure: RefusalErrors `token-invalid`, `token-expired`, `session-revoked`, `credentials-wrong` (fingerprint).
 */
import type { KeyObject } from 'node:crypto';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { Clock } from '../lib/clock.ts';
import type { Database, Sql } from '../store/ports/database.ts';
import type { IdentityStores, SessionRow, UserRole } from '../store/ports/identity.ts';
import type { IdentityEvent } from './events.ts';
import { newId } from '../lib/ulid.ts';
import { decideRefresh, successorOf, type RefreshDecision } from './refresh.ts';
import { looksLikeSecret, newSecret, sha256 } from './secrets.ts';
import type { SessionState } from './session-state.ts';
import type { Tokens } from './tokens.ts';

/** Longest life of a session, ms. */
export const SESSION_MS: number = 90 * 86_400_000;
/** Life of a refresh token, ms. */
export const REFRESH_TOKEN_MS: number = 7 * 86_400_000;

/** Tokens on their way to a client. Times are Unix ms. */
export interface TokenPair {
  readonly accessToken: string;
  readonly expiresAt: number;
  readonly refreshToken: string;
  readonly refreshExpiresAt: number;
  readonly sessionId: string;
}

/** Whose session it is to be. `fingerprint`: what a device must show again at each refresh. */
export interface SessionOpening {
  readonly subject: string;
  readonly userId: string | null;
  readonly deviceId: string | null;
  readonly role: UserRole | null;
  readonly scope: string;
  readonly fingerprint: string | null;
}

/** Sessions as a service. */
export interface Sessions {
  open(opening: SessionOpening): Promise<TokenPair>;
  refresh(refreshToken: string, fingerprint: string | null): Promise<TokenPair>;
  /** Ends a session; ending it twice does nothing more. */
  end(sessionId: string, reason: string): Promise<void>;
  /** Ends all sessions of a device (lock, quarantine). */
  endOfDevice(deviceId: string, reason: string): Promise<void>;
  /** Within the caller's transaction; give the ids to {@link Sessions.announce} after the commit. */
  endOfUser(sql: Sql, userId: string, reason: string): Promise<string[]>;
  announce(ids: readonly string[]): Promise<void>;
}

/** What {@link createSessions} needs. */
export interface SessionOptions {
  readonly db: Database;
  readonly stores: Pick<IdentityStores, 'sessions' | 'users'>;
  readonly state: Pick<SessionState, 'announce'>;
  readonly tokens: Pick<Tokens, 'issue'>;
  readonly refreshKey: KeyObject;
  readonly clock: Clock;
  readonly onEvent: (event: IdentityEvent) => void;
}

interface Refreshed {
  readonly decision: RefreshDecision;
  readonly session: SessionRow | null;
  readonly refreshExpiresAt: number;
}

const hashed = (text: string | null): Buffer | null => (text === null ? null : sha256(text));

/** Builds the service of sessions. */
export function createSessions(options: SessionOptions): Sessions {
  const { db, stores, state, clock } = options;
  const store = stores.sessions;

  const act = async (sql: Sql, hash: Buffer, nextHash: Buffer, fingerprint: string | null): Promise<Refreshed> => {
    const now = clock.now();
    const session = await store.lockByRefreshToken(sql, hash);
    // Read after the lock is held: what another refresh has done meanwhile is seen.
    const token = session === null ? null : await store.refreshToken(sql, hash);
    const next = token?.successor ?? null;
    const successor = next === null ? null : await store.refreshToken(sql, next);
    const decision = decideRefresh({ session, token, successor, fingerprintHash: hashed(fingerprint) }, now);
    const expiresAt = Math.min(now + REFRESH_TOKEN_MS, session?.expiresAt ?? 0);
    if (decision.kind === 'rotate' && session !== null) {
      await store.insertRefreshToken(sql, { hash: nextHash, sessionId: session.id, issuedAt: now, expiresAt });
      await store.markUsed(sql, hash, now, nextHash);
    }
    if (decision.kind === 'reuse' && session !== null) await store.revoke(sql, [session.id], now, 'refresh-reuse');
    return {
      decision,
      session,
      refreshExpiresAt: decision.kind === 'repeat' ? (successor?.expiresAt ?? 0) : expiresAt,
    };
  };

  const roleOf = async (session: SessionRow): Promise<UserRole | null> => {
    if (session.userId === null) return null;
    const user = await stores.users.byId(db, session.userId);
    if (user === null || user.disabledAt !== null) throw refuse('session-revoked');
    return user.role;
  };

  return {
    async open(opening) {
      const now = clock.now();
      const sessionId = newId(now);
      const refreshToken = newSecret();
      const refreshExpiresAt = now + REFRESH_TOKEN_MS;
      const { subject, userId, deviceId, role, scope } = opening;
      await db.transaction(async (sql) => {
        const times = { createdAt: now, expiresAt: now + SESSION_MS };
        await store.insert(sql, {
          id: sessionId,
          subject,
          userId,
          deviceId,
          scope,
          fingerprintHash: hashed(opening.fingerprint),
          ...times,
        });
        await store.insertRefreshToken(sql, {
          hash: sha256(refreshToken),
          sessionId,
          issuedAt: now,
          expiresAt: refreshExpiresAt,
        });
      });
      const token = await options.tokens.issue({ subject, sessionId, scope, role, deviceId });
      return { ...token, refreshToken, refreshExpiresAt, sessionId };
    },
    async refresh(refreshToken, fingerprint) {
      if (!looksLikeSecret(refreshToken)) throw refuse('token-invalid', 'The refresh token is not known');
      const next = successorOf(refreshToken, options.refreshKey);
      const done = await db.transaction((sql) => act(sql, sha256(refreshToken), sha256(next), fingerprint));
      const { decision, session } = done;
      const who = {
        sessionId: session?.id ?? null,
        subject: session?.subject ?? null,
        deviceId: session?.deviceId ?? null,
      };
      options.onEvent({
        kind: 'refresh',
        result: decision.kind === 'refused' ? decision.reason : decision.kind,
        ...who,
      });
      if (decision.kind === 'reuse' && session !== null) await state.announce([session.id]);
      if (session === null || decision.kind === 'refused' || decision.kind === 'reuse') throw refusalOf(decision);
      const { id: sessionId, subject, scope, deviceId } = session;
      const token = await options.tokens.issue({ subject, sessionId, scope, role: await roleOf(session), deviceId });
      return { ...token, refreshToken: next, refreshExpiresAt: done.refreshExpiresAt, sessionId };
    },
    async end(sessionId, reason) {
      const ended = await store.revoke(db, [sessionId], clock.now(), reason);
      await state.announce(ended);
    },
    async endOfDevice(deviceId, reason) {
      await state.announce(await store.revokeOfDevice(db, deviceId, clock.now(), reason));
    },
    endOfUser: (sql, userId, reason) => store.revokeOfUser(sql, userId, clock.now(), reason),
    announce: (ids) => state.announce(ids),
  };
}

function refusalOf(decision: RefreshDecision): Error {
  if (decision.kind === 'reuse')
    return refuse('session-revoked', 'The refresh token was used before; its session has ended');
  if (decision.kind !== 'refused' || decision.reason === 'unknown')
    return refuse('token-invalid', 'The refresh token is not known');
  if (decision.reason === 'revoked') return refuse('session-revoked');
  if (decision.reason === 'expired') return refuse('token-expired', 'The refresh token has expired');
  return refuse('credentials-wrong', 'The fingerprint is not that of this session');
}
