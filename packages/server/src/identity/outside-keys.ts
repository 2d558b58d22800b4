/**
 * The keys of an outside identity provider (`JWKS_URL`).
 *
 * Guarantees: bounded (256 KiB, 100 keys, 5 s, no redirect); read when a token names an unknown kid, at most once in 30 s,
 * and anew after 10 minutes, so that a key the provider has taken back is forgotten then; calls that meet share one
 * reading. Failure: while the provider does not answer, keys up to an hour old still count; nothing is thrown.
 */
import type { Clock } from '../lib/clock.ts';
import type { VerifyingKey } from './signing-keys.ts';
import { verifyingKeyOf } from './verifying-keys.ts';

const BODY_BYTES = 262_144;
const KEYS = 100;
const TIMEOUT_MS = 5000;
const FRESH_MS = 600_000;
const STALE_MS = 3_600_000;
const BETWEEN_MS = 30_000;

/** The provider's keys. */
export interface OutsideKeys {
  find(kid: string): Promise<VerifyingKey | null>;
}

/** What {@link createOutsideKeys} needs. `fetch` is the platform's when absent. */
export interface OutsideKeyOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly fetch?: typeof fetch;
  readonly onFailed?: (error: unknown) => void;
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  if (response.body !== null) {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      if (bytes > BODY_BYTES) throw new Error(`the JWKS is over ${BODY_BYTES} bytes`);
      chunks.push(chunk);
    }
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseKeys(text: string): Map<string, VerifyingKey> {
  const document: unknown = JSON.parse(text);
  const list: unknown =
    typeof document === 'object' && document !== null ? (document as { keys?: unknown }).keys : undefined;
  if (!Array.isArray(list)) throw new Error('the JWKS has no keys');
  const keys = new Map<string, VerifyingKey>();
  for (const jwk of list.slice(0, KEYS) as unknown[]) {
    const key = typeof jwk === 'object' && jwk !== null ? verifyingKeyOf(jwk as Record<string, unknown>) : null;
    if (key !== null) keys.set(key.kid, key);
  }
  return keys;
}

/** Builds the reader of an outside JWKS. Nothing is fetched until a token asks for it. */
export function createOutsideKeys(options: OutsideKeyOptions): OutsideKeys {
  const { url, clock } = options;
  const load = options.fetch ?? fetch;
  let keys: ReadonlyMap<string, VerifyingKey> = new Map();
  let readAt = Number.NEGATIVE_INFINITY;
  let triedAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | null = null;

  const read = async (): Promise<void> => {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await load(url, { redirect: 'error', signal, headers: { accept: 'application/json' } });
      if (!response.ok) throw new Error(`the JWKS answers ${response.status}`);
      keys = parseKeys(await readBody(response));
      readAt = clock.monotonic();
    } catch (error) {
      options.onFailed?.(error);
    }
  };

  return {
    async find(kid) {
      const now = clock.monotonic();
      const wanted = now - readAt >= FRESH_MS || !keys.has(kid);
      if (reading === null && wanted && now - triedAt >= BETWEEN_MS) {
        triedAt = now;
        reading = read().finally(() => {
          reading = null;
        });
      }
      if (wanted && reading !== null) await reading;
      return clock.monotonic() - readAt < STALE_MS ? (keys.get(kid) ?? null) : null;
    },
  };
}
