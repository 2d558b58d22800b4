/**
 * The one shape in which messages of MQTT come in, from the link to an outside broker and from the embedded one, and what
 * is to be done with them. Types only.
 */

import type { ErrorCode } from '@tocsin/protocol/errors';

/** A message of QoS 0 or 1 as it arrived. */
export interface MqttMessage {
  readonly topic: string;
  readonly payload: Buffer;
  /** W3C traceparent of the user properties (MQTT 5), or null. */
  readonly traceparent: string | null;
}

/**
 * What became of it. `acknowledge`: it is durable, or it was refused and counted; nobody need send it again. `later`:
 * overloaded, or the store is away: no PUBACK now, try the same message again after so many ms.
 */
export type MqttVerdict = { readonly kind: 'acknowledge' } | { readonly kind: 'later'; readonly retryAfterMs: number };

/** Hears of a message that was dropped, and acknowledged, before anything read it. `deviceId`: what its topic names there. */
export type RefusedUnread = (reason: ErrorCode, deviceId: string | null) => void;

/** Takes a message in; never rejects. Many may be on their way at once. */
export type TakeMqttMessage = (message: MqttMessage) => Promise<MqttVerdict>;
