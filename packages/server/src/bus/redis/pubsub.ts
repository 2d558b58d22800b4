/**
 * Publish-subscribe over Redis. The text of a topic `t` travels on the channel `bus:{t}` (`keys.ts`), sealed (`seal.ts`):
 * inside are the tag of the publisher, whether it is a message or a probe, a message's number, and the payload.
 *
 * Guarantees: at most once, in the order of publication for one topic and publisher. A process's own messages reach its own
 * listeners at once and without Redis, in a later microtask; their echo is known by the tag and dropped. What others send
 * counts only sealed with the cluster's key, for this topic, within 60 s, and once (`replay.ts`). A listener that throws
 * harms nobody.
 * A process that subscribed only just now may be played what was published in the 60 s before. It bears that, because each
 * topic's messages bear being heard twice:
 *   `channel:*`: the sequencer knows the offset already, or the store says where to begin · `log`: wakes workers, which look
 *   into the store · `sessions`: the store is asked whether they ended · `registry`, `api-keys`, `signing-keys`: what changed
 *   is read anew · `live`: of a device's frames the newest is kept, whatever comes twice · `websocket:replaced`: the id of a connection is never used again, and one that is gone is ignored.
 * Failure: `publish` rejects with `bus-unavailable` when Redis did not take the text, with `bus-message-too-long` (and then
 * nobody hears it) when it is over the seal's bound. `subscribe` never rejects.
 */
import { randomBytes, type KeyObject } from 'node:crypto';
import type { Clock } from '../../lib/clock.ts';
import { CodedError } from '../../lib/coded-error.ts';
import type { PublishSubscribe, TopicListener } from '../ports/bus.ts';
import { open, SEALED_MOST, seal, type SealReason } from '../seal.ts';
import { createInTurn } from './in-turn.ts';
import { topicChannel } from './keys.ts';
import type { RedisLink } from './link.ts';
import type { RedisPlace } from './place.ts';
import { createProbe, type Probe, type ProbeTimes } from './probe.ts';
import { createReplayGuard } from './replay.ts';
import { createSubscriber } from './subscriber.ts';

/** A topic that is always subscribed, so that a probe travels also where nobody listens. */
const OWN_TOPIC = 'probe';
/** 72 random bits as base64url. */
const TAG_CHARACTERS = 12;
const MESSAGE = 'm';
const PROBE = 'p';
/** What follows the tag in a message. */
const NUMBERED = /^m([1-9][0-9]{0,15})\./;
/** Messages of a topic that wait for those before them, on a Cluster. */
const WAITING_MOST = 5000;
/** Where the time begins in a sealed text. */
const TIME_AT = 44;

/** Why a message was dropped. `replayed`: it was heard already. */
export type BusDropReason = SealReason | 'replayed';

/** What it needs. */
export interface RedisPubSubOptions {
  readonly place: RedisPlace;
  /** Publishes; hearing has a connection of its own. */
  readonly link: RedisLink;
  readonly key: KeyObject;
  readonly clock: Clock;
  /** Hears what a listener throws. */
  readonly onListenerError: (error: unknown) => void;
  /** A text on the topic's channel did not count. */
  readonly onDropped: (reason: BusDropReason, topic: string) => void;
  /** These topics were deaf; the hearing connection is made anew. */
  readonly onRemade: (topics: readonly string[]) => void;
  /** A probe came back after so many seconds. */
  readonly onTravel: (seconds: number) => void;
  /** What goes wrong on the hearing side; it is tried again. */
  readonly onError: (error: unknown) => void;
  /** A CA (PEM) to trust instead of Node's own roots. */
  readonly ca?: string;
  /** For tests; those of the product when absent. */
  readonly times?: ProbeTimes;
}

/** {@link PublishSubscribe} that knows whether it works. */
export interface RedisPubSub extends PublishSubscribe {
  /** True while every topic's probes come back ({@link Probe.healthy}). */
  healthy(): boolean;
  /** Age of the last probe that came back, in ms ({@link Probe.lagMs}). */
  lagMs(): number;
  /** Ends timers and the hearing connection; the link stays. */
  close(): Promise<void>;
}

/** Creates it and begins to connect. */
export function createRedisPubSub(options: RedisPubSubOptions): RedisPubSub {
  const { link, key, clock } = options;
  const tag = randomBytes((TAG_CHARACTERS * 3) / 4).toString('base64url');
  const topics = new Map<string, Set<{ readonly listener: TopicListener }>>([[OWN_TOPIC, new Set()]]);
  const topicOf = new Map<string, string>();
  const guard = createReplayGuard();
  const inTurn = createInTurn(WAITING_MOST);
  let number = 0;
  const now = (): number => Math.floor(clock.now());
  const sharded = options.place.kind === 'cluster';

  function deliver(topic: string, payload: string, publishedAt: number): void {
    for (const { listener } of topics.get(topic) ?? []) {
      try {
        listener(payload, publishedAt);
      } catch (error) {
        options.onListenerError(error);
      }
    }
  }

  function hear(channel: string, text: string): void {
    const topic = topicOf.get(channel);
    if (topic === undefined) return;
    const sender = senderOf(text, tag);
    // Neither needs a MAC: both are dropped whoever sent them.
    if (sender === 'own-message' || sender === 'other-probe') return;
    const opened = open(key, topic, text, now());
    if (typeof opened === 'string') return options.onDropped(opened, topic);
    const publisher = opened.payload.slice(0, TAG_CHARACTERS);
    const rest = opened.payload.slice(TAG_CHARACTERS);
    if (sender === 'own-probe') return probe.heard(topic, rest.slice(1));
    const [head, digits] = NUMBERED.exec(rest) ?? [];
    if (head === undefined) return options.onDropped('malformed', topic);
    if (!guard.accept(publisher, topic, Number(digits), clock.monotonic())) return options.onDropped('replayed', topic);
    deliver(topic, rest.slice(head.length), opened.publishedAt);
  }

  async function send(what: string, topic: string, at: number): Promise<void> {
    const text = seal(key, topic, tag + what, at);
    const channel = topicChannel(topic);
    await (sharded
      ? link.run('spublish', (client) => client.spublish(channel, text))
      : link.run('publish', (client) => client.publish(channel, text)));
  }

  const subscriber = createSubscriber({
    place: options.place,
    name: 'tocsin-subscriber',
    onMessage: hear,
    onError: options.onError,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  const probe: Probe = createProbe({
    clock,
    ...(options.times === undefined ? {} : { times: options.times }),
    topics: () => [...topics.keys()],
    send: (topic, payload) => send(`${PROBE}${payload}`, topic, now()),
    remake(deaf) {
      options.onRemade(deaf);
      subscriber.remake();
    },
    onTravel: options.onTravel,
  });

  async function listen(topic: string): Promise<void> {
    topicOf.set(topicChannel(topic), topic);
    await subscriber.add(topicChannel(topic));
    probe.noteTopic(topic);
  }
  void listen(OWN_TOPIC);
  probe.start();

  return {
    async publish(topic, payload) {
      // Seal, tag and number take less than 100 characters.
      if (payload.length > SEALED_MOST - 128) {
        throw new CodedError('bus-message-too-long', `A bus message has at most ${SEALED_MOST - 128} characters`);
      }
      const at = now();
      number += 1;
      const what = `${MESSAGE}${number}.${payload}`;
      queueMicrotask(() => deliver(topic, payload, at));
      if (sharded) await inTurn(topic, () => send(what, topic, at));
      else await send(what, topic, at);
    },
    async subscribe(topic, listener) {
      const listeners = topics.get(topic) ?? new Set();
      const entry = { listener };
      listeners.add(entry);
      if (topics.has(topic)) await subscriber.add(topicChannel(topic));
      else {
        topics.set(topic, listeners);
        await listen(topic);
      }
      return async () => {
        listeners.delete(entry);
        if (listeners.size > 0 || topics.get(topic) !== listeners || topic === OWN_TOPIC) return;
        topics.delete(topic);
        topicOf.delete(topicChannel(topic));
        subscriber.remove(topicChannel(topic));
      };
    },
    healthy: () => probe.healthy(),
    lagMs: () => probe.lagMs(),
    async close() {
      probe.stop();
      await subscriber.close();
    },
  };
}

/** Looks at a sealed text's tag and kind, not at its seal. Pure. */
function senderOf(text: string, tag: string): 'own-message' | 'own-probe' | 'other-probe' | 'other' {
  const tagAt = text.indexOf('.', TIME_AT) + 1;
  if (tagAt === 0) return 'other';
  const kind = text[tagAt + TAG_CHARACTERS];
  if (!text.startsWith(tag, tagAt)) return kind === PROBE ? 'other-probe' : 'other';
  return kind === PROBE ? 'own-probe' : 'own-message';
}
