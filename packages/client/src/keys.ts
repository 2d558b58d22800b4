/**
 * The keys that alerts are checked with: pinned ones, or those of the server's JWKS with the purpose `alert`.
 *
 * Guarantees: the JWKS is asked for at the start, again after a failure with back-off, and for a key that is not known at
 * most once in 10 s, whatever arrives. An alert that names an unknown key waits for that; it is neither shown nor thrown
 * away before the server was asked.
 */
import { isObject, type ViewerAlert } from './alert-shape.ts';
import type { Environment } from './environment.ts';
import type { Ask } from './http.ts';
import { type AlertJwk, importAlertKey, isSignedBy, signatureKid } from './signature.ts';

/** How often the JWKS may be asked for, in ms. */
export const REFETCH_MS = 10_000;
/** Back-off after a JWKS that could not be had, in ms; it doubles. */
const RETRY_MS = 500;
/** Keys that are kept at most; a JWKS with more of them is cut. */
const KEYS_MOST = 64;

/** Whom to trust: the server that is connected to, or these keys alone. */
export type Trust = 'server' | { readonly keys: readonly AlertJwk[] };

/** What is known of an alert's signature. `unavailable`: there is no WebCrypto here, so nothing could be checked. */
export type Verification = 'verified' | 'forged' | 'unavailable';

/** Checks alerts. */
export interface KeyRing {
  /** True when alerts can be checked, or never will be (no WebCrypto). */
  readonly ready: boolean;
  /** Waits until it can tell; after `stop` that may be never. */
  check(alert: ViewerAlert): Promise<Verification>;
  stop(): void;
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= 256;

function isAlertJwk(value: unknown): value is AlertJwk {
  return (
    isObject(value) &&
    value['kty'] === 'EC' &&
    value['crv'] === 'P-256' &&
    ['x', 'y', 'kid'].every((name) => isText(value[name]))
  );
}

/** The keys of a JWKS that alerts are signed with. */
export function alertKeys(jwks: Readonly<Record<string, unknown>>): AlertJwk[] {
  const list: readonly unknown[] = Array.isArray(jwks['keys']) ? jwks['keys'] : [];
  return list
    .filter((key): key is AlertJwk => isAlertJwk(key) && (key as { purpose?: unknown }).purpose === 'alert')
    .slice(0, KEYS_MOST);
}

/** Creates the ring and begins to fill it. `onReady` is called when `ready` becomes true. */
export function createKeyRing(env: Environment, ask: Ask, trust: Trust, onReady: () => void): KeyRing {
  const { subtle } = env;
  let keys: ReadonlyMap<string, unknown> = new Map();
  let ready = subtle === null;
  let failures = 0;
  let allowedAt = Number.NEGATIVE_INFINITY;
  let loading: Promise<void> | null = null;
  let cancel: (() => void) | null = null;
  let stopped = false;

  async function add(found: readonly AlertJwk[]): Promise<void> {
    if (subtle === null) return;
    const ring = new Map<string, unknown>();
    // A key that is no point of the curve checks nothing.
    for (const jwk of found) {
      const key = await importAlertKey(subtle, jwk).catch(() => null);
      if (key !== null) ring.set(jwk.kid, key);
    }
    keys = ring;
    if (ready || stopped || ring.size === 0) return;
    ready = true;
    onReady();
  }

  /** One request, once it is allowed; answers whether it is over. */
  async function request(): Promise<boolean> {
    const wait = allowedAt - env.monotonic();
    // After `stop` this never goes on: whoever waits is gone, too.
    if (wait > 0) await new Promise<void>((resolve) => (cancel = env.after(wait, resolve)));
    const reply = await ask({ path: '.well-known/jwks.json' });
    const found = reply?.status === 200 ? alertKeys(reply.body) : [];
    failures = found.length > 0 ? 0 : failures + 1;
    const wanted = failures === 0 ? REFETCH_MS : Math.min(REFETCH_MS, RETRY_MS * 2 ** failures);
    allowedAt = env.monotonic() + Math.max(wanted, reply?.retryAfterMs ?? 0);
    if (found.length > 0) await add(found);
    return stopped || (ready && found.length > 0);
  }

  /** Those who wait at the same time share one load. */
  function load(): Promise<void> {
    loading ??= (async () => {
      while (!(await request()));
    })().finally(() => {
      loading = null;
    });
    return loading;
  }

  if (subtle !== null && trust === 'server') void load();
  else if (trust !== 'server') loading = add(trust.keys.slice(0, KEYS_MOST));

  return {
    get ready(): boolean {
      return ready;
    },
    async check(alert) {
      if (subtle === null) return 'unavailable';
      const kid = signatureKid(alert.signature);
      if (kid === null) return 'forged';
      if (!keys.has(kid)) await (trust === 'server' ? load() : loading);
      const key = keys.get(kid);
      return key && (await isSignedBy(subtle, key, alert)) ? 'verified' : 'forged';
    },
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}
