/**
 * A channel's fast path: messages that are committed are published on the bus, topic `channel:<name>`.
 *
 * Guarantees: a message counts only with an HMAC-SHA-256 (RFC 2104) by the cluster's bus key over channel, offset, time
 * and body, so that access to the bus forges nothing; and only within 60 s of its publication, so that nothing old is
 * played again. What is dropped is named. Nothing is owed: whatever gets lost here is read from the store.
 * Failure: `publish` never rejects; a bus that fails is reported to `onFailure`.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { PublishSubscribe, Unsubscribe } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { ChannelMessage } from '../store/ports/channels.ts';

/** How far from now a message's publication may lie, both ways, in ms. */
export const CHANNEL_FRESH_MS = 60_000;
/** The longest bus message that is looked at, in characters. */
export const CHANNEL_PAYLOAD_MOST = 1_048_576;

/** Why a bus message was dropped. */
export type DropReason = 'malformed' | 'forged' | 'stale' | 'other-channel';

/** A bus message that passed, with the time of its publication (Unix ms). */
export interface ReceivedMessage {
  readonly message: ChannelMessage;
  readonly publishedAt: number;
}

/** The bus topic of a channel. */
export function channelTopic(channel: string): string {
  return `channel:${channel}`;
}

function macOf(key: KeyObject, text: string): Buffer {
  // The prefix keeps MACs of other uses of the same key from being taken for these.
  return createHmac('sha256', key).update('tocsin-channel-1\n').update(text).digest();
}

/** The text that goes over the bus: MAC, a dot, the message as JSON. */
export function sealMessage(key: KeyObject, message: ChannelMessage, publishedAt: number): string {
  const { channel, offset, type, zoneId, severity, createdAt, body } = message;
  const text = JSON.stringify([channel, offset, publishedAt, type, zoneId, severity, createdAt, body]);
  return `${macOf(key, text).toString('base64url')}.${text}`;
}

/** Opens what {@link sealMessage} made, or says why not. Looks at nothing before the MAC is right. */
export function openMessage(
  key: KeyObject,
  channel: string,
  payload: string,
  now: number,
): ReceivedMessage | DropReason {
  const dot = payload.indexOf('.');
  if (dot < 0 || payload.length > CHANNEL_PAYLOAD_MOST) return 'malformed';
  const text = payload.slice(dot + 1);
  const given = Buffer.from(payload.slice(0, dot), 'base64url');
  const expected = macOf(key, text);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 'forged';
  // Only a holder of the key made this text, so its shape is ours.
  const fields = JSON.parse(text) as [string, number, number, string, string | null, number, number, string];
  const [from, offset, publishedAt, type, zoneId, severity, createdAt, body] = fields;
  if (from !== channel) return 'other-channel';
  if (Math.abs(now - publishedAt) > CHANNEL_FRESH_MS) return 'stale';
  return { message: { channel, offset, type, zoneId, severity, createdAt, body }, publishedAt };
}

/** What a publisher needs. */
export interface PublisherOptions {
  readonly pubsub: PublishSubscribe;
  /** A secret KeyObject (`createSecretKey`): HMAC with a raw buffer is five times slower on Node 24. */
  readonly key: KeyObject;
  readonly clock: Clock;
  readonly onFailure?: (error: unknown) => void;
}

/** Tells the other processes of committed messages. */
export interface ChannelPublisher {
  /** Call it after the commit, in the order of offsets. Never rejects. */
  publish(messages: readonly ChannelMessage[]): Promise<void>;
}

/** Creates a publisher for every channel of this process. */
export function createChannelPublisher(options: PublisherOptions): ChannelPublisher {
  return {
    async publish(messages) {
      try {
        const sealed = messages.map((message) => ({
          topic: channelTopic(message.channel),
          payload: sealMessage(options.key, message, options.clock.now()),
        }));
        await Promise.all(sealed.map(({ topic, payload }) => options.pubsub.publish(topic, payload)));
      } catch (error) {
        options.onFailure?.(error);
      }
    },
  };
}

/** What a subscriber needs. */
export interface SubscriberOptions {
  readonly pubsub: PublishSubscribe;
  readonly key: KeyObject;
  readonly clock: Clock;
  readonly channel: string;
  readonly onMessage: (received: ReceivedMessage) => void;
  readonly onDropped: (reason: DropReason) => void;
}

/** Listens to a channel's topic; rejects when the bus does. */
export function subscribeChannel(options: SubscriberOptions): Promise<Unsubscribe> {
  return options.pubsub.subscribe(channelTopic(options.channel), (payload) => {
    const opened = openMessage(options.key, options.channel, payload, options.clock.now());
    if (typeof opened === 'string') options.onDropped(opened);
    else options.onMessage(opened);
  });
}
