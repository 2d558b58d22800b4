/**
 * API keys: what programs and gateways show.
 *
 * Guarantees: a key is shown once and stored as SHA-256; each process holds all living keys (at most 10,000) and looks
 * whether they have changed at most a second ago, so a check costs one SHA-256 and no statement, known key or not: unknown
 * ones cannot flood the store. A key made or revoked elsewhere counts within a second, through the bus at once.
 * Failure: rejects with `store-unavailable` when the keys are older than a second and cannot be read.
 */
import { timingSafeEqual } from 'node:crypto';
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { PublishSubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { Database, Sql } from '../store/ports/database.ts';
import type { ApiKeyCounts, ApiKeyRow, ApiKeyScope, ApiKeyStore } from '../store/ports/identity.ts';
import { newId } from '../lib/ulid.ts';
import { newSecret, sha256, sha256Hex } from './secrets.ts';

/** All scopes; the first key has them all. */
export const API_KEY_SCOPES: readonly ApiKeyScope[] = ['ingest', 'register', 'read'];

const LIVING_MOST = 10_000;
const FRESH_MS = 1000;
/** From this age on the keys are read again behind the scenes, so that no check has to wait. */
const AHEAD_MS = 500;
const TOPIC = 'api-keys';

/** An API key as others see it. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly ApiKeyScope[];
  readonly createdAt: number;
  readonly revokedAt: number | null;
}

/** A new API key; `key` is never shown again. */
export interface NewApiKey extends ApiKey {
  readonly key: string;
}

/** What a check answers: whose key it is and what it may do. */
export interface KnownKey {
  readonly id: string;
  readonly scopes: readonly ApiKeyScope[];
}

/** API keys as a service. */
export interface ApiKeys {
  /** The living key of this text, null when there is none; at once unless nothing was checked for half a second. */
  check(text: string): KnownKey | null | Promise<KnownKey | null>;
  create(name: string, scopes: readonly ApiKeyScope[]): Promise<NewApiKey>;
  /** Adds a key whose text is given (setting API_KEY). False: it is there, or was and is revoked. */
  add(sql: Sql, text: string, name: string): Promise<boolean>;
  /** Keys with an id below `before` (null: from the newest), newest first. */
  list(before: string | null, limit: number): Promise<ApiKey[]>;
  /** Throws `not-found` when there is no such living key. */
  revoke(id: string): Promise<void>;
  /** Tells every process that keys have changed. */
  announce(): Promise<void>;
  close(): Promise<void>;
}

/** What {@link openApiKeys} needs. */
export interface ApiKeyOptions {
  readonly db: Database;
  readonly store: ApiKeyStore;
  readonly pubsub: PublishSubscribe;
  readonly clock: Clock;
  readonly onFailed?: (error: unknown) => void;
}

interface HeldKey extends KnownKey {
  readonly hash: Buffer;
}

const show = ({ id, name, scopes, createdAt, revokedAt }: ApiKeyRow): ApiKey => ({
  id,
  name,
  scopes,
  createdAt,
  revokedAt,
});

/** True when text may be an API key at all. Pure. */
export function isApiKeyText(text: string): boolean {
  return text.length >= LIMITS.apiKeyLeastCharacters.value && text.length <= LIMITS.apiKeyCharacters.value;
}

/** The living keys by the hex SHA-256 of their text, read anew when they have changed. */
function createHeldKeys({ store, clock, onFailed }: ApiKeyOptions): {
  check(text: string): KnownKey | null | Promise<KnownKey | null>;
  stale(): void;
} {
  let held: ReadonlyMap<string, HeldKey> = new Map();
  let counts: ApiKeyCounts | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  let generation = 0;
  let reading: Promise<void> | null = null;

  const read = async (): Promise<void> => {
    const startedAt = clock.monotonic();
    const startedIn = generation;
    const now = await store.counts();
    if (counts === null || counts.all !== now.all || counts.revoked !== now.revoked) {
      const rows = await store.active(LIVING_MOST);
      held = new Map(rows.map(({ id, scopes, hash }) => [hash.toString('hex'), { id, scopes, hash }]));
      counts = now;
    }
    // A change that was announced meanwhile may not be in what was read.
    if (startedIn === generation) readAt = startedAt;
  };
  const refresh = (): Promise<void> => {
    reading ??= read().finally(() => {
      reading = null;
    });
    return reading;
  };
  const find = (text: string): KnownKey | null => {
    const hex = sha256Hex(text);
    const key = held.get(hex);
    return key !== undefined && timingSafeEqual(key.hash, Buffer.from(hex, 'hex')) ? key : null;
  };
  const ready = async (text: string): Promise<KnownKey | null> => {
    await refresh();
    // The reading that was joined may have begun before this question; the next one cannot have.
    if (clock.monotonic() - readAt >= FRESH_MS) await refresh();
    return find(text);
  };

  return {
    check(text) {
      if (!isApiKeyText(text)) return null;
      const age = clock.monotonic() - readAt;
      if (age >= FRESH_MS) return ready(text);
      if (age >= AHEAD_MS && reading === null) refresh().catch((error: unknown) => onFailed?.(error));
      return find(text);
    },
    stale() {
      generation += 1;
      readAt = Number.NEGATIVE_INFINITY;
    },
  };
}

/** Opens the service; resolves once it hears of changes. */
export async function openApiKeys(options: ApiKeyOptions): Promise<ApiKeys> {
  const { db, store, pubsub, clock } = options;
  const held = createHeldKeys(options);
  const unsubscribe = await pubsub.subscribe(TOPIC, () => held.stale());

  const announce = async (): Promise<void> => {
    held.stale();
    await pubsub.publish(TOPIC, 'changed').catch((error: unknown) => options.onFailed?.(error));
  };
  const rowOf = (text: string, name: string, scopes: readonly ApiKeyScope[]): ApiKeyRow => ({
    id: newId(clock.now()),
    name,
    hash: sha256(text),
    scopes: API_KEY_SCOPES.filter((scope) => scopes.includes(scope)),
    createdAt: clock.now(),
    revokedAt: null,
  });

  return {
    check: (text) => held.check(text),
    async create(name, scopes) {
      const counts = await store.counts();
      if (counts.all - counts.revoked >= LIVING_MOST)
        throw refuse('limit-reached', `There are ${LIVING_MOST} API keys already`);
      const key = `tocsin_${newSecret()}`;
      const row = rowOf(key, name, scopes);
      await store.insert(db, row);
      await announce();
      return { ...show(row), key };
    },
    add: (sql, text, name) => store.insert(sql, rowOf(text, name, API_KEY_SCOPES)),
    list: async (before, limit) => (await store.list(before, limit)).map(show),
    async revoke(id) {
      if (!(await store.revoke(id, clock.now()))) throw refuse('not-found', 'There is no such API key');
      await announce();
    },
    announce,
    close: () => unsubscribe(),
  };
}
