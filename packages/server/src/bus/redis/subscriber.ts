/**
 * The connection of a process that hears: which channels it wants, and that it hears them again after whatever happened.
 *
 * Guarantees: every wanted channel is subscribed anew after each reconnect, failover and `remake`, and tried again while
 * Redis refuses. On Cluster the subscriptions are sharded (SSUBSCRIBE, https://redis.io/docs/latest/commands/ssubscribe/),
 * one connection for each node that has a wanted channel; ioredis moves them with their slots. A connection that lies (open,
 * but deaf) is not noticed here: `probe.ts` finds it and calls `remake`.
 * Failure: nothing here rejects. `add` waits for Redis only while Redis is thought to be there.
 */
import type { Cluster } from 'ioredis';
import { CodedError } from '../../lib/coded-error.ts';
import { createRedisClient, ended, type RedisClient } from './link.ts';
import type { RedisPlace } from './place.ts';

/** How long `add` waits at most for Redis to confirm, and a new connection counts as on its way, in ms. */
const PATIENCE_MS = 1000;
/** Between two tries of a subscription that Redis refused: from half of it to all, in ms. */
const RETRY_MS = 500;

/** What a subscriber needs. */
export interface SubscriberOptions {
  readonly place: RedisPlace;
  readonly name: string;
  readonly onMessage: (channel: string, text: string) => void;
  readonly onError: (error: unknown) => void;
  /** A CA (PEM) to trust instead of Node's own roots. */
  readonly ca?: string;
}

/** The hearing side. */
export interface Subscriber {
  /** Wants a channel. Resolves once Redis confirmed, or at once while Redis is away: the rest follows. */
  add(channel: string): Promise<void>;
  /** Wants it no more; what is under way may still arrive. */
  remove(channel: string): void;
  /** Drops the connection, however healthy it looks, and makes it anew. */
  remake(): void;
  /** Drops the connection and ends the timers; resolves when the connection is gone, or after a second. */
  close(): Promise<void>;
}

/** `connecting`: a new connection, not ready yet; `away`: it was lost, or did not come in time; it is being tried. */
type Phase = 'connecting' | 'ready' | 'away' | 'closed';
type Happening = 'made' | 'ready' | 'lost' | 'waited' | 'end';

const NEXT: Readonly<Record<Phase, Readonly<Partial<Record<Happening, Phase>>>>> = {
  connecting: { made: 'connecting', ready: 'ready', lost: 'away', waited: 'away', end: 'closed' },
  ready: { made: 'connecting', ready: 'ready', lost: 'away', end: 'closed' },
  away: { made: 'away', ready: 'ready', end: 'closed' },
  closed: {},
};

interface Wanted {
  /** Redis confirmed it on the present connection. */
  live: boolean;
  /** ioredis holds it already for the present connection, so that Cluster must forget it before it is asked again. */
  asked: boolean;
  /** Those who wait for it. */
  readonly waiting: Set<() => void>;
}

/** Opens the connection and begins to connect. */
export function createSubscriber(options: SubscriberOptions): Subscriber {
  const channels = new Map<string, Wanted>();
  let phase: Phase = 'connecting';
  let client: RedisClient;
  let retry: NodeJS.Timeout | null = null;
  let patience: NodeJS.Timeout | null = null;

  function step(happening: Happening): boolean {
    const next = NEXT[phase][happening];
    if (next === undefined) return false;
    phase = next;
    return true;
  }

  function release(wanted: Wanted): void {
    for (const resolve of wanted.waiting) resolve();
    wanted.waiting.clear();
  }

  function lost(happening: 'lost' | 'waited'): void {
    if (!step(happening)) return;
    for (const wanted of channels.values()) {
      wanted.live = false;
      release(wanted);
    }
  }

  /** Asks Redis for one channel on the connection `on`. */
  async function ask(on: RedisClient, channel: string, wanted: Wanted): Promise<void> {
    const again = wanted.asked;
    wanted.asked = true;
    try {
      if (isCluster(on)) {
        // ioredis remembers a channel once more each time it is asked for.
        if (again) on.sunsubscribe(channel).catch(() => undefined);
        await on.ssubscribe(channel);
      } else await on.subscribe(channel);
    } catch (error) {
      if (on === client && phase === 'ready' && channels.get(channel) === wanted) retryLater(error);
      return;
    }
    if (on !== client || channels.get(channel) !== wanted) return;
    wanted.live = true;
    release(wanted);
  }

  function retryLater(error: unknown): void {
    if (retry !== null) return;
    const text = error instanceof Error ? error.message : 'unknown';
    options.onError(new CodedError('bus-unavailable', `Redis refused a subscription: ${text}`));
    retry = setTimeout(
      () => {
        retry = null;
        askMissing();
      },
      (RETRY_MS * (1 + Math.random())) / 2,
    );
  }

  function askMissing(): void {
    if (phase !== 'ready') return;
    for (const [channel, wanted] of channels) if (!wanted.live) void ask(client, channel, wanted);
  }

  function connect(): RedisClient {
    const made = createRedisClient(options.place, {
      name: options.name,
      subscriber: true,
      onError: options.onError,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    const mine = (work: () => void) => (): void => {
      if (made === client) work();
    };
    made.on(isCluster(made) ? 'smessage' : 'message', (channel: string, text: string) => {
      if (made === client && phase !== 'closed') options.onMessage(channel, text);
    });
    made.on(
      'close',
      mine(() => lost('lost')),
    );
    made.on(
      'ready',
      mine(() => {
        if (!step('ready')) return;
        for (const wanted of channels.values()) wanted.live = false;
        askMissing();
      }),
    );
    if (patience !== null) clearTimeout(patience);
    patience = setTimeout(() => lost('waited'), PATIENCE_MS);
    for (const wanted of channels.values()) {
      wanted.live = false;
      wanted.asked = false;
    }
    return made;
  }

  client = connect();

  return {
    async add(channel) {
      const wanted = channels.get(channel) ?? { live: false, asked: false, waiting: new Set() };
      const fresh = !channels.has(channel);
      channels.set(channel, wanted);
      if (fresh && phase === 'ready') void ask(client, channel, wanted);
      if (wanted.live || phase === 'away' || phase === 'closed') return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, PATIENCE_MS);
        function done(): void {
          clearTimeout(timer);
          wanted.waiting.delete(done);
          resolve();
        }
        wanted.waiting.add(done);
      });
    },
    remove(channel) {
      const wanted = channels.get(channel);
      if (wanted === undefined) return;
      channels.delete(channel);
      release(wanted);
      if (!wanted.asked || phase !== 'ready') return;
      const left = isCluster(client) ? client.sunsubscribe(channel) : client.unsubscribe(channel);
      left.catch(() => undefined);
    },
    remake() {
      if (!step('made')) return;
      const old = client;
      client = connect();
      old.disconnect();
    },
    async close() {
      if (!step('end')) return;
      if (retry !== null) clearTimeout(retry);
      if (patience !== null) clearTimeout(patience);
      for (const wanted of channels.values()) release(wanted);
      channels.clear();
      await ended(client);
    },
  };
}

function isCluster(client: RedisClient): client is Cluster {
  return client.isCluster;
}
