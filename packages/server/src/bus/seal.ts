/**
 * What makes a message of a shared bus ours: every topic's messages travel sealed, whatever they say.
 *
 * Guarantees: text opens only under the key and the topic it was sealed for (HMAC-SHA-256, RFC 2104, over topic, time of
 * publication and payload), so that access to Redis forges nothing; and only within 60 s of its publication, so that
 * nothing old is played again. The MAC is compared in constant time and before anything else of the text is believed.
 * Within the 60 s the same text opens again and again: every listener bears a message twice (`bus/redis/pubsub.ts` says
 * for each topic why).
 * Failure: what does not open is named by its reason and never thrown. Pure.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';

/** How far from now a message's publication may lie, both ways, in ms. */
export const SEAL_FRESH_MS = 60_000;
/** The longest sealed text that is looked at, in characters. */
export const SEALED_MOST = 1_048_576;

/** Why a text was dropped. */
export type SealReason = 'malformed' | 'forged' | 'stale';

/** What was sealed. `publishedAt`: Unix ms, by the publisher's clock. */
export interface Opened {
  readonly payload: string;
  readonly publishedAt: number;
}

/** SHA-256 as base64url without padding. */
const MAC_CHARACTERS = 43;
const SHAPE = /^[A-Za-z0-9_-]{43}\.(0|[1-9][0-9]{0,15})\./;

function macOf(key: KeyObject, topic: string, publishedAt: string, payload: string): string {
  // The prefix keeps MACs of other uses of the same key from being taken for these; the length keeps a topic's end from
  // being taken for a time's beginning.
  return createHmac('sha256', key)
    .update(`tocsin-bus-1\n${topic.length}:${topic}:${publishedAt}:`)
    .update(payload)
    .digest('base64url');
}

/**
 * The text that goes over the bus: MAC, time, payload, with dots between. `key` is a KeyObject (HMAC with a raw buffer is
 * five times slower on Node 24), `publishedAt` whole Unix ms. Longer than {@link SEALED_MOST} it opens nowhere.
 */
export function seal(key: KeyObject, topic: string, payload: string, publishedAt: number): string {
  const at = String(publishedAt);
  return `${macOf(key, topic, at, payload)}.${at}.${payload}`;
}

/** Opens what {@link seal} made for this topic, or says why not. `now`: Unix ms. */
export function open(key: KeyObject, topic: string, text: string, now: number): Opened | SealReason {
  if (text.length > SEALED_MOST) return 'malformed';
  const time = SHAPE.exec(text)?.[1];
  if (time === undefined) return 'malformed';
  const payload = text.slice(MAC_CHARACTERS + time.length + 2);
  // Compared as text: base64url has more than one spelling of the same bytes.
  const given = Buffer.from(text.slice(0, MAC_CHARACTERS), 'latin1');
  const expected = Buffer.from(macOf(key, topic, time, payload), 'latin1');
  if (!timingSafeEqual(given, expected)) return 'forged';
  const publishedAt = Number(time);
  if (Math.abs(now - publishedAt) > SEAL_FRESH_MS) return 'stale';
  return { payload, publishedAt };
}
