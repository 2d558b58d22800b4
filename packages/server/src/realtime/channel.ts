/**
 * A channel's fast path: messages that are committed are published on the bus, topic `channel:<name>`.
 *
 * Guarantees: none of its own. The bus authenticates what it carries (`bus/seal.ts`: topic, time, payload, and so channel,
 * offset and body); here a payload counts only when it has exactly a message's shape and names the topic's channel. What
 * is dropped is named. Nothing is owed: whatever gets lost here is read from the store, and what comes twice has an offset
 * that the sequencer knows already.
 * Failure: `publish` never rejects; a bus that fails is reported to `onFailure`.
 */
import type { PublishSubscribe, Unsubscribe } from '../bus/ports/bus.ts';
import type { ChannelMessage } from '../store/ports/channels.ts';

/** Why a bus message was dropped. */
export type DropReason = 'malformed' | 'other-channel';

/** A bus message that passed, with the time of its publication (Unix ms). */
export interface ReceivedMessage {
  readonly message: ChannelMessage;
  readonly publishedAt: number;
}

/** The bus topic of a channel. */
export function channelTopic(channel: string): string {
  return `channel:${channel}`;
}

/** The payload that goes over the bus. Pure. */
export function encodeMessage(message: ChannelMessage): string {
  const { channel, offset, type, zoneId, severity, createdAt, body } = message;
  return JSON.stringify([channel, offset, type, zoneId, severity, createdAt, body]);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === 'string';

/** Reads what {@link encodeMessage} made, or says why not. Pure. */
export function decodeMessage(channel: string, payload: string): ChannelMessage | DropReason {
  let fields: unknown;
  try {
    fields = JSON.parse(payload);
  } catch {
    return 'malformed';
  }
  if (!Array.isArray(fields) || fields.length !== 7) return 'malformed';
  const [from, offset, type, zoneId, severity, createdAt, body] = fields as unknown[];
  if (!isText(from) || !isText(type) || !isText(body) || (zoneId !== null && !isText(zoneId))) return 'malformed';
  if (!isCount(offset) || offset === 0 || !isCount(severity) || !isCount(createdAt)) return 'malformed';
  if (from !== channel) return 'other-channel';
  return { channel, offset, type, zoneId, severity, createdAt, body };
}

/** What a publisher needs. */
export interface PublisherOptions {
  readonly pubsub: PublishSubscribe;
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
        await Promise.all(
          messages.map((message) => options.pubsub.publish(channelTopic(message.channel), encodeMessage(message))),
        );
      } catch (error) {
        options.onFailure?.(error);
      }
    },
  };
}

/** What a subscriber needs. */
export interface SubscriberOptions {
  readonly pubsub: PublishSubscribe;
  readonly channel: string;
  readonly onMessage: (received: ReceivedMessage) => void;
  readonly onDropped: (reason: DropReason) => void;
}

/** Listens to a channel's topic; rejects when the bus does. */
export function subscribeChannel(options: SubscriberOptions): Promise<Unsubscribe> {
  return options.pubsub.subscribe(channelTopic(options.channel), (payload, publishedAt) => {
    const message = decodeMessage(options.channel, payload);
    if (typeof message === 'string') options.onDropped(message);
    else options.onMessage({ message, publishedAt });
  });
}
