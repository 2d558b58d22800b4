/**
 * Which sessions live: asked for every request and, in batches, for every open viewer.
 *
 * Guarantees: an answer is at most 1 s old; questions of one turn of the event loop share one statement; bounded memory.
 * A revocation is published on the bus topic `sessions`; what arrives there is only a hint, the store decides, so that
 * access to the bus ends nobody's session. Ids of outside tokens always live: no store of ours knows them. Those of client
 * certificates live while what they say of their user or device is true (certificate-session.ts).
 * Failure: rejects with `store-unavailable`.
 */
import { boundMap } from '../lib/bound-map.ts';
import type { PublishSubscribe, Unsubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { CertificateStore, SessionStore } from '../store/ports/identity.ts';
import { isCertificateSession, readCertificateSession, SESSION_ID_CHARACTERS } from './certificate-session.ts';
import { OUTSIDE_SESSION } from './principal.ts';

const TOPIC = 'sessions';
const FRESH_MS = 1000;
const REMEMBERED = 50_000;
const BATCH = 1000;
/** Ids in one message. */
const MESSAGE_IDS = 200;
/** Ids that wait to be confirmed after messages; what is over is seen by the regular check. */
const UNCONFIRMED = 10_000;

/** The state of sessions as a service. */
export interface SessionState {
  /** Whether the session lives; at once when it was asked less than 1 s ago. */
  alive(sessionId: string): boolean | Promise<boolean>;
  /** Those of `ids` that have ended or never were; not from the cache. */
  dead(ids: readonly string[]): Promise<string[]>;
  /** Calls `listener` with ids that ended just now, in this process or another. Answers how to stop. */
  onEnded(listener: (ids: readonly string[]) => void): () => void;
  /** Tells every process. `ids` are revoked in the store already. */
  announce(ids: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** What {@link openSessionState} needs. */
export interface SessionStateOptions {
  readonly store: Pick<SessionStore, 'dead'>;
  readonly certificates: Pick<CertificateStore, 'broken'>;
  readonly pubsub: PublishSubscribe;
  readonly clock: Clock;
  readonly onFailed?: (error: unknown) => void;
}

interface Waiter {
  readonly resolve: (alive: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** The ids in a message of the topic, at most {@link MESSAGE_IDS}; none when it is malformed. Pure. */
export function parseEnded(payload: string): string[] {
  try {
    const value: unknown = JSON.parse(payload);
    const ids: unknown =
      typeof value === 'object' && value !== null ? (value as { sessions?: unknown }).sessions : undefined;
    return Array.isArray(ids)
      ? ids
          .slice(0, MESSAGE_IDS)
          .filter((id): id is string => typeof id === 'string' && id.length <= SESSION_ID_CHARACTERS)
      : [];
  } catch {
    return [];
  }
}

async function inBatches(
  ids: readonly string[],
  ask: (batch: readonly string[]) => Promise<string[]>,
): Promise<string[]> {
  const found: string[] = [];
  for (let from = 0; from < ids.length; from += BATCH) found.push(...(await ask(ids.slice(from, from + BATCH))));
  return found;
}

/** Opens the service; resolves once it hears of revocations. */
export async function openSessionState(options: SessionStateOptions): Promise<SessionState> {
  const { store, pubsub, clock } = options;
  const livedAt = new Map<string, number>();
  const listeners = new Set<(ids: readonly string[]) => void>();
  const unconfirmed = new Set<string>();
  let asked = new Map<string, Waiter[]>();
  let confirming = false;

  const broken = (ids: readonly string[]): Promise<string[]> => {
    const claims = ids.flatMap((id) => readCertificateSession(id) ?? []);
    const malformed = ids.filter((id) => readCertificateSession(id) === null);
    return options.certificates.broken(claims).then((names) => [...malformed, ...names]);
  };
  const dead = async (ids: readonly string[]): Promise<string[]> => {
    const ours = [...new Set(ids)].filter((id) => !id.startsWith(OUTSIDE_SESSION));
    return [
      ...(await inBatches(
        ours.filter((id) => !isCertificateSession(id)),
        (batch) => store.dead(batch, clock.now()),
      )),
      ...(await inBatches(ours.filter(isCertificateSession), broken)),
    ];
  };

  const flush = (): void => {
    const questions = asked;
    asked = new Map();
    const at = clock.monotonic();
    dead([...questions.keys()]).then(
      (ended) => {
        const gone = new Set(ended);
        for (const [id, waiters] of questions) {
          if (!gone.has(id)) remember(id, at);
          for (const waiter of waiters) waiter.resolve(!gone.has(id));
        }
      },
      (error: unknown) => {
        for (const waiters of questions.values()) for (const waiter of waiters) waiter.reject(error);
      },
    );
  };

  const forgottenAt = new Map<string, number>();
  const remember = (id: string, at: number): void => {
    // A message that came while the store was being asked is newer than the answer.
    if ((forgottenAt.get(id) ?? Number.NEGATIVE_INFINITY) >= at) return;
    livedAt.delete(id);
    livedAt.set(id, at);
    boundMap(livedAt, REMEMBERED);
  };
  const forget = (ids: readonly string[]): void => {
    for (const id of ids) {
      livedAt.delete(id);
      forgottenAt.delete(id);
      forgottenAt.set(id, clock.monotonic());
      boundMap(forgottenAt, REMEMBERED);
    }
  };

  const confirm = async (): Promise<void> => {
    if (confirming) return;
    confirming = true;
    try {
      while (unconfirmed.size > 0) {
        const ids = [...unconfirmed];
        unconfirmed.clear();
        const ended = await dead(ids);
        if (ended.length > 0) for (const listener of listeners) listener(ended);
      }
    } catch (error) {
      options.onFailed?.(error);
    } finally {
      confirming = false;
    }
  };

  const unsubscribe: Unsubscribe = await pubsub.subscribe(TOPIC, (payload) => {
    const ids = parseEnded(payload);
    forget(ids);
    for (const id of ids) if (unconfirmed.size < UNCONFIRMED) unconfirmed.add(id);
    void confirm();
  });

  return {
    alive(sessionId) {
      if (sessionId.startsWith(OUTSIDE_SESSION)) return true;
      const at = livedAt.get(sessionId);
      if (at !== undefined && clock.monotonic() - at < FRESH_MS) return true;
      return new Promise((resolve, reject) => {
        if (asked.size === 0) setImmediate(flush);
        const waiters = asked.get(sessionId);
        if (waiters === undefined) asked.set(sessionId, [{ resolve, reject }]);
        else waiters.push({ resolve, reject });
      });
    },
    dead,
    onEnded(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async announce(ids) {
      forget(ids);
      for (let from = 0; from < ids.length; from += MESSAGE_IDS) {
        const message = JSON.stringify({ type: 'session-revoked', sessions: ids.slice(from, from + MESSAGE_IDS) });
        // Only a hint: the others see it within a second anyway.
        await pubsub.publish(TOPIC, message).catch((error: unknown) => options.onFailed?.(error));
      }
    },
    close: () => unsubscribe(),
  };
}
