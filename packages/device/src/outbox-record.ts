/** What the records of the outbox say, as text: an envelope that waits, or the ids of envelopes that are settled. Pure. */
import { isProfileName, type ProfileName } from '@tocsin/protocol/envelope';
import { isIdentifier } from '@tocsin/protocol/identifiers';

/** An envelope as it waits: everything but its signature and the time of signing. */
export interface QueuedEnvelope {
  /** Rises in the order of reports. */
  readonly sequence: number;
  readonly id: string;
  readonly profile: ProfileName;
  readonly urgent: boolean;
  /** How many readings. */
  readonly count: number;
  /** The array of readings as JSON. */
  readonly readings: string;
}

/** A record's meaning. */
export type OutboxRecord =
  | { readonly kind: 'queued'; readonly envelope: QueuedEnvelope }
  | { readonly kind: 'settled'; readonly ids: readonly string[] };

/** The most ids of one settling record. */
export const SETTLED_MOST = 1000;

/** The text of a record: a line that says what it is and, for an envelope, its readings. */
export function writeOutboxRecord(record: OutboxRecord): string {
  if (record.kind === 'settled') return JSON.stringify({ settled: record.ids });
  const { sequence, id, profile, urgent, count, readings } = record.envelope;
  return `${JSON.stringify({ sequence, id, profile, urgent, count })}\n${readings}`;
}

/** What a record says; null for what another version of this file may have written. */
export function readOutboxRecord(payload: string): OutboxRecord | null {
  const end = payload.indexOf('\n');
  const head = parseObject(end < 0 ? payload : payload.slice(0, end));
  if (head === null) return null;
  const { settled, sequence, id, profile, urgent, count } = head;
  if (end < 0) {
    return Array.isArray(settled) && settled.every(isIdentifier) ? { kind: 'settled', ids: settled } : null;
  }
  if (!isCount(sequence) || !isIdentifier(id) || !isProfileName(profile) || !isCount(count)) return null;
  const readings = payload.slice(end + 1);
  return { kind: 'queued', envelope: { sequence, id, profile, urgent: urgent === true, count, readings } };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
