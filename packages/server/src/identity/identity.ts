/**
 * Identity: who may come in and as whom. One factory joins its parts; the ports come from the caller.
 *
 * Order: `createIdentity` reads and makes the signing keys and listens on the bus; then `ensureFirst` once per start; then
 * requests. `close` ends timers and subscriptions. Several processes on one store need the same CLUSTER_SECRET.
 */
import type { KeyObject } from 'node:crypto';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import type { BucketShape, Bus } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { Database } from '../store/ports/database.ts';
import type { IdentityStores, KeyPurpose } from '../store/ports/identity.ts';
import { openApiKeys, type ApiKeys } from './api-keys.ts';
import { bearerToken, createAuthenticators, type HttpAuthenticators } from './authenticators.ts';
import { type Certificates, createCertificates } from './certificates.ts';
import { cleanup, type CleanupCounts } from './cleanup.ts';
import type { IdentityEvent } from './events.ts';
import { createFirstStart, type Announce, type GivenCredentials } from './first-start.ts';
import { createOutsideKeys } from './outside-keys.ts';
import { createPasswords, type Passwords } from './passwords.ts';
import type { Principal } from './principal.ts';
import { deriveKeys } from './secrets.ts';
import { openSessionState, type SessionState } from './session-state.ts';
import { createSessions, type Sessions, type TokenPair } from './sessions.ts';
import { createSignIn, type SignInRequest } from './sign-in.ts';
import { createSignInLimits } from './sign-in-limits.ts';
import { openSigningKeys, type SigningKeys, type TokenAlgorithm } from './signing-keys.ts';
import { createTickets, type Tickets } from './tickets.ts';
import { createTokens } from './tokens.ts';
import { createUsers, type Users } from './users.ts';

/** The settings that identity works by. */
export interface IdentitySettings {
  /** CLUSTER_SECRET, at least 32 characters. */
  readonly clusterSecret: string;
  /** JWT_ALGORITHM. */
  readonly tokenAlgorithm: TokenAlgorithm;
  /** JWT_ISSUER, else PUBLIC_URL. */
  readonly issuer: string;
  /** JWT_AUDIENCE. */
  readonly audience: string;
  /** JWT_CLOCK_SKEW_SECONDS, 0 to 30. */
  readonly skewSeconds: number;
  /** ACCESS_TOKEN_MINUTES. */
  readonly accessTokenMinutes: number;
  /** JWKS_URL. */
  readonly jwksUrl?: string | undefined;
}

/** What {@link createIdentity} needs. */
export interface IdentityOptions {
  readonly db: Database;
  readonly stores: IdentityStores;
  readonly bus: Pick<Bus, 'pubsub' | 'cells' | 'limiter'>;
  readonly clock: Clock;
  readonly settings: IdentitySettings;
  /** Hears what happens, for log, metrics and audit; must not throw. */
  readonly onEvent: (event: IdentityEvent) => void;
}

/** Refreshes of one address: a whole site of devices behind it may come back at once. */
const REFRESHES: BucketShape = { ratePerSecond: 20, burst: 1200 };

/** A refresh. `address`: what limits count the address by. */
export interface RefreshRequest {
  readonly refreshToken: string;
  readonly fingerprint: string | null;
  readonly address: string;
}

/** Identity as a whole. */
export interface Identity {
  readonly authenticators: HttpAuthenticators;
  readonly users: Users;
  readonly apiKeys: ApiKeys;
  readonly sessions: Sessions;
  readonly sessionState: SessionState;
  readonly signingKeys: SigningKeys;
  readonly tickets: Tickets;
  readonly certificates: Certificates;
  /** The key that authenticates messages of the bus. */
  readonly busMac: KeyObject;
  /** Checks an access token and its session; throws a RefusalError. */
  verifyAccessToken(jwt: string): Promise<Principal>;
  /** The same from the text of a header `Authorization`. */
  holder(authorization: string | undefined): Promise<Principal>;
  signIn(request: SignInRequest): Promise<TokenPair>;
  refresh(request: RefreshRequest): Promise<TokenPair>;
  signOut(sessionId: string): Promise<void>;
  /** First operator and first API key; idempotent. */
  ensureFirst(given: GivenCredentials, announce: Announce): Promise<void>;
  /** New signing keys; answers kids. */
  rotateKeys(purposes: readonly KeyPurpose[]): Promise<string[]>;
  /** Deletes what has expired, in small batches. */
  cleanup(now: number): Promise<CleanupCounts>;
  close(): Promise<void>;
}

interface Ground {
  readonly keys: ReturnType<typeof deriveKeys>;
  readonly signingKeys: SigningKeys;
  readonly sessionState: SessionState;
  readonly apiKeys: ApiKeys;
  readonly passwords: Passwords;
  close(): Promise<void>;
}

/** Everything that must be opened, and closed again when something after it fails. */
async function openGround({ db, stores, bus, clock, settings, onEvent }: IdentityOptions): Promise<Ground> {
  const keys = deriveKeys(settings.clusterSecret);
  const { pubsub } = bus;
  const failed =
    (part: Extract<IdentityEvent, { kind: 'background-failed' }>['part']) =>
    (error: unknown): void =>
      onEvent({ kind: 'background-failed', part, error });
  const opened: { close(): Promise<void> }[] = [];
  const close = async (): Promise<void> => {
    for (const part of opened.splice(0).reverse()) await part.close();
  };
  const keep = <Part extends { close(): Promise<void> }>(part: Part): Part => {
    opened.push(part);
    return part;
  };
  try {
    const accessTokenMs = settings.accessTokenMinutes * 60_000;
    const { tokenAlgorithm } = settings;
    const common = { db, pubsub, clock };
    const signing = { ...common, store: stores.signingKeys, sealing: keys.sealing, tokenAlgorithm, accessTokenMs };
    const signingKeys = keep(await openSigningKeys({ ...signing, onRefreshFailed: failed('signing-keys') }));
    const sessionState = keep(
      await openSessionState({
        ...common,
        store: stores.sessions,
        certificates: stores.certificates,
        onFailed: failed('sessions'),
      }),
    );
    const apiKeys = keep(await openApiKeys({ ...common, store: stores.apiKeys, onFailed: failed('api-keys') }));
    return { keys, signingKeys, sessionState, apiKeys, passwords: await createPasswords(), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens identity. Rejects with `cluster-secret-short`, `cluster-secret-wrong` or `store-unavailable`. */
export async function createIdentity(options: IdentityOptions): Promise<Identity> {
  const { db, stores, bus, clock, settings, onEvent } = options;
  const ground = await openGround(options);
  const { signingKeys, sessionState, apiKeys, passwords } = ground;
  const onFailed = (error: unknown): void => onEvent({ kind: 'background-failed', part: 'outside-keys', error });
  const tokens = createTokens({
    keys: signingKeys,
    outside: settings.jwksUrl === undefined ? undefined : createOutsideKeys({ url: settings.jwksUrl, clock, onFailed }),
    sessionAlive: (id) => sessionState.alive(id),
    clock,
    issuer: settings.issuer,
    audience: settings.audience,
    skewSeconds: settings.skewSeconds,
    accessTokenMs: settings.accessTokenMinutes * 60_000,
  });
  const sessions = createSessions({
    db,
    stores,
    state: sessionState,
    tokens,
    refreshKey: ground.keys.refresh,
    clock,
    onEvent,
  });
  const limits = createSignInLimits(bus, clock);
  return {
    authenticators: createAuthenticators({ apiKeys, tokens }),
    users: createUsers({ db, stores, passwords, sessions, clock }),
    apiKeys,
    sessions,
    sessionState,
    signingKeys,
    certificates: createCertificates(stores.certificates),
    tickets: createTickets({ store: stores.tickets, state: sessionState, limiter: bus.limiter, clock }),
    busMac: ground.keys.busMac,
    verifyAccessToken: (jwt) => tokens.verify(jwt),
    holder: async (authorization) => tokens.verify(bearerToken(authorization)),
    signIn: createSignIn({ users: stores.users, passwords, sessions, limits, onEvent }),
    async refresh({ refreshToken, fingerprint, address }) {
      const { allowed, retryAfterMs } = await bus.limiter.take(`refresh:address:${address}`, REFRESHES);
      if (!allowed)
        throw new RefusalError({ code: 'rate-limited', detail: 'Too many refreshes from this address', retryAfterMs });
      return sessions.refresh(refreshToken, fingerprint);
    },
    async signOut(sessionId) {
      await sessions.end(sessionId, 'logout');
      onEvent({ kind: 'sign-out', sessionId });
    },
    ensureFirst: createFirstStart({ db, stores, passwords, apiKeys, clock }),
    async rotateKeys(purposes) {
      const kids: string[] = [];
      for (const purpose of purposes) {
        const kid = await signingKeys.rotate(purpose);
        onEvent({ kind: 'keys-rotated', kid });
        kids.push(kid);
      }
      return kids;
    },
    cleanup: (now) => cleanup(stores, now),
    close: () => ground.close(),
  };
}
