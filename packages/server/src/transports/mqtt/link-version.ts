/**
 * Which version of MQTT to speak with the broker: 5, unless it turned out that it only knows 3.1.1. Pure.
 *
 * A broker says so by refusing (reason 0x84, or return code 1 in the words of 3.1.1): 3.1.1 from then on. Some only close the
 * connection, as a failing network does: after two such ends in a row 3.1.1 is tried, and kept when it works; a
 * broker that ever spoke 5 to this process is not doubted for that. After {@link ANEW_MS} the next connection tries 5 again.
 */

/** The protocol level: 5 is MQTT 5, 4 is MQTT 3.1.1. */
export type MqttVersion = 5 | 4;

/** How an attempt went. `closed`: ended without an answer to CONNECT; `other`: says nothing about the version. */
export type VersionOutcome = 'spoken' | 'refused' | 'closed' | 'other';

/** The choice for one broker. */
export interface VersionChoice {
  /** What the next attempt is to speak; `now` is a monotonic time in ms. */
  next(now: number): MqttVersion;
  report(version: MqttVersion, outcome: VersionOutcome, now: number): void;
}

/** 3.1.1 is remembered so long. */
export const ANEW_MS = 3_600_000;
const CLOSED_IN_A_ROW = 2;

/** Nothing is known yet. */
export function createVersionChoice(): VersionChoice {
  let oldUntil = Number.NEGATIVE_INFINITY;
  let spokeFive = false;
  let closed = 0;
  return {
    next: (now) => (now < oldUntil || closed >= CLOSED_IN_A_ROW ? 4 : 5),
    report(version, outcome, now) {
      if (outcome === 'other') return;
      if (version === 5) {
        if (outcome === 'spoken') spokeFive = true;
        if (outcome === 'refused') oldUntil = now + ANEW_MS;
        closed = outcome === 'closed' && !spokeFive ? closed + 1 : 0;
        return;
      }
      closed = 0;
      if (outcome === 'refused') oldUntil = Number.NEGATIVE_INFINITY;
      else if (outcome === 'spoken' && now >= oldUntil) oldUntil = now + ANEW_MS;
    },
  };
}
