/**
 * The installation's signing keys, separate for tokens, alerts and commands.
 *
 * Guarantees: made once, whoever starts first (unique index in the store); private halves only sealed in the store; a
 * rotation makes a new current key, and the old public key stays known: of a token key until every token signed with it
 * is over, of an alert or command key for ever. Another process's rotation is seen within 10 s, or at once when a token
 * names an unknown kid (at most 5 times a second) or the bus says so. A process that has not heard of a rotation
 * yet signs with the old key meanwhile, and that is still accepted.
 * Failure: `open` rejects with `cluster-secret-wrong` when the keys in the store were sealed with another secret; later
 * refreshes that fail keep the keys known so far.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { calculateJwkThumbprint } from 'jose';
import type { PublishSubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import { CodedError } from '../lib/coded-error.ts';
import type { Database } from '../store/ports/database.ts';
import type { KeyPurpose, SigningKeyRow, SigningKeyStore } from '../store/ports/identity.ts';
import { seal, unseal } from './sealing.ts';

/** What tokens may be signed with. */
export const TOKEN_ALGORITHMS = ['ES256', 'RS256'] as const;
/** See {@link TOKEN_ALGORITHMS}. */
export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number];

const PURPOSES: readonly KeyPurpose[] = ['token', 'alert', 'command'];
const REFRESH_MS = 10_000;
const MISSES_PER_SECOND = 5;
/** How long a process may go on signing with a key after it was retired elsewhere, with room to spare. */
const RETIRED_GRACE_MS = 120_000;
const TOPIC = 'signing-keys';

/** A key to sign with. */
export interface SigningKey<Algorithm extends TokenAlgorithm = TokenAlgorithm> {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly algorithm: Algorithm;
}

/** A key to check with. */
export interface VerifyingKey {
  readonly kid: string;
  readonly publicKey: KeyObject;
  readonly algorithm: TokenAlgorithm;
}

/** A JSON Web Key Set (RFC 7517). Each key has `use: "sig"`, and `purpose`: token, alert or command. */
export interface Jwks {
  readonly keys: readonly Readonly<Record<string, unknown>>[];
}

/** The keys as a service. */
export interface SigningKeys {
  /** The key to sign with now. */
  current(purpose: 'alert' | 'command'): SigningKey<'ES256'>;
  current(purpose: 'token'): SigningKey;
  /** The key that a token names; asks the store when it is not known. Null: there is none. */
  tokenKey(kid: string): Promise<VerifyingKey | null>;
  jwks(): Jwks;
  /** Makes a new current key; answers its kid. */
  rotate(purpose: KeyPurpose): Promise<string>;
  /** Reads the store's keys anew. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/** What {@link openSigningKeys} needs. */
export interface SigningKeyOptions {
  readonly db: Database;
  readonly store: SigningKeyStore;
  readonly sealing: KeyObject;
  readonly pubsub: PublishSubscribe;
  readonly clock: Clock;
  /** Of token keys; alerts and commands are ES256. */
  readonly tokenAlgorithm: TokenAlgorithm;
  /** Life of an access token, ms. */
  readonly accessTokenMs: number;
  readonly onRefreshFailed?: (error: unknown) => void;
}

interface LoadedKey extends SigningKey {
  readonly purpose: KeyPurpose;
  readonly publicKey: KeyObject;
  readonly publicJwk: Readonly<Record<string, unknown>>;
  readonly retiredAt: number | null;
}

const context = (purpose: KeyPurpose, kid: string): string => `tocsin/1/signing-key/${purpose}/${kid}`;

/** Makes a key pair as a row for the store; kid = RFC 7638 thumbprint. */
export async function makeSigningKey(
  purpose: KeyPurpose,
  algorithm: TokenAlgorithm,
  sealing: KeyObject,
  now: number,
): Promise<SigningKeyRow> {
  const pair =
    algorithm === 'ES256'
      ? await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
      : await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  const jwk = pair.publicKey.export({ format: 'jwk' });
  const kid = await calculateJwkThumbprint(jwk, 'sha256');
  const sealed = seal(sealing, pair.privateKey.export({ format: 'der', type: 'pkcs8' }), context(purpose, kid));
  return { kid, purpose, algorithm, publicJwk: { ...jwk }, sealed, createdAt: now, retiredAt: null };
}

function loadKey(row: SigningKeyRow, sealing: KeyObject): LoadedKey {
  const algorithm = TOKEN_ALGORITHMS.find((known) => known === row.algorithm);
  if (algorithm === undefined)
    throw new CodedError('signing-key-unknown', `Signing key ${row.kid} has an unknown algorithm`);
  const privateKey = createPrivateKey({
    key: unseal(sealing, row.sealed, context(row.purpose, row.kid)),
    format: 'der',
    type: 'pkcs8',
  });
  // The public half comes from the sealed one: whoever can write the table cannot put a key of his own into the JWKS.
  const publicKey = createPublicKey(privateKey);
  const publicJwk = { ...publicKey.export({ format: 'jwk' }) };
  return { kid: row.kid, purpose: row.purpose, algorithm, privateKey, publicKey, publicJwk, retiredAt: row.retiredAt };
}

/** True while something signed with the key may still be met. Pure. */
export function keyStillCounts(
  key: { readonly purpose: KeyPurpose; readonly retiredAt: number | null },
  now: number,
  accessTokenMs: number,
): boolean {
  return key.purpose !== 'token' || key.retiredAt === null || now < key.retiredAt + accessTokenMs + RETIRED_GRACE_MS;
}

/** The keys that this process knows. */
interface KeySet {
  all(): LoadedKey[];
  get(kid: string): LoadedKey | undefined;
  /** Reads the store's keys; calls that meet share one reading. */
  refresh(): Promise<void>;
}

function createKeySet(store: SigningKeyStore, sealing: KeyObject): KeySet {
  let keys: ReadonlyMap<string, LoadedKey> = new Map();
  let reading: Promise<void> | null = null;
  const read = async (): Promise<void> => {
    const fresh = new Map<string, LoadedKey>();
    for (const row of await store.all()) {
      const known = keys.get(row.kid);
      fresh.set(row.kid, known === undefined ? loadKey(row, sealing) : { ...known, retiredAt: row.retiredAt });
    }
    keys = fresh;
  };
  return {
    all: () => [...keys.values()],
    get: (kid) => keys.get(kid),
    refresh() {
      reading ??= read().finally(() => {
        reading = null;
      });
      return reading;
    },
  };
}

/** Lets at most {@link MISSES_PER_SECOND} unknown kids through to the store each second. */
function createMissBudget(clock: Clock): () => boolean {
  let windowEnds = Number.NEGATIVE_INFINITY;
  let left = 0;
  return () => {
    const now = clock.monotonic();
    if (now >= windowEnds) {
      windowEnds = now + 1000;
      left = MISSES_PER_SECOND;
    }
    left -= 1;
    return left >= 0;
  };
}

/** Reads the keys, makes those that are missing, and keeps them fresh until `close`. */
export async function openSigningKeys(options: SigningKeyOptions): Promise<SigningKeys> {
  const { db, store, sealing, pubsub, clock, accessTokenMs } = options;
  const set = createKeySet(store, sealing);
  const mayAsk = createMissBudget(clock);
  const algorithmOf = (purpose: KeyPurpose): TokenAlgorithm => (purpose === 'token' ? options.tokenAlgorithm : 'ES256');
  const background = (): void => {
    set.refresh().catch((error: unknown) => options.onRefreshFailed?.(error));
  };
  const find = (purpose: KeyPurpose): LoadedKey | undefined =>
    set
      .all()
      .find((key) => key.purpose === purpose && key.algorithm === algorithmOf(purpose) && key.retiredAt === null);
  const current = (purpose: KeyPurpose): LoadedKey => {
    const key = find(purpose);
    if (key === undefined) throw new CodedError('signing-key-missing', `There is no current ${purpose} key`);
    return key;
  };

  await set.refresh();
  for (const purpose of PURPOSES) {
    if (find(purpose) !== undefined) continue;
    await store.insertCurrent(db, await makeSigningKey(purpose, algorithmOf(purpose), sealing, clock.now()));
  }
  await set.refresh();
  const unsubscribe = await pubsub.subscribe(TOPIC, background);
  const timer = setInterval(background, REFRESH_MS);
  timer.unref();

  return {
    current: current as SigningKeys['current'],
    async tokenKey(kid) {
      if (set.get(kid) === undefined && mayAsk()) await set.refresh();
      const key = set.get(kid);
      return key !== undefined && key.purpose === 'token' && keyStillCounts(key, clock.now(), accessTokenMs)
        ? key
        : null;
    },
    jwks() {
      const now = clock.now();
      const keys = set.all().filter((key) => keyStillCounts(key, now, accessTokenMs));
      return {
        keys: keys.map((key) => ({
          ...key.publicJwk,
          kid: key.kid,
          alg: key.algorithm,
          use: 'sig',
          purpose: key.purpose,
        })),
      };
    },
    async rotate(purpose) {
      const row = await makeSigningKey(purpose, algorithmOf(purpose), sealing, clock.now());
      await db.transaction(async (sql) => {
        await store.lock(sql);
        await store.retire(sql, purpose, clock.now());
        await store.insertCurrent(sql, row);
      });
      await set.refresh();
      // Only a hint: the other processes look every 10 s anyway.
      await pubsub.publish(TOPIC, 'rotated').catch((error: unknown) => options.onRefreshFailed?.(error));
      return row.kid;
    },
    refresh: () => set.refresh(),
    async close() {
      clearInterval(timer);
      await unsubscribe();
    },
  };
}
