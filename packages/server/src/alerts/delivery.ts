/**
 * Who got an alert, and when: the counts of all processes, put together. Pure but for the two reads.
 *
 * Times of a revision count from its message's own time (`updatedAt` of that revision), so what the commit took is in them.
 * Percentiles are within 1 % and whole ms; the greatest is exact.
 */
import { mergeSketches, quantiles, type Sketch } from '../lib/sketch.ts';
import type { AlertPlaces, DeliveryRow, DeliveryStore, RevisionPlace } from '../store/ports/deliveries.ts';
import { ALERT_CHANNEL } from './ledger.ts';

/** Revisions that a report tells of. */
export const REPORTED_REVISIONS = 20;

/** Of durations, in ms. */
export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** What became of one message, over all processes. Times are Unix ms; null: nobody, so far. */
export interface DeliveryCounts extends Omit<DeliveryRow, 'offset' | 'send' | 'receive'> {
  /** False: the message, and what was counted for it, is not kept any more; everything else is then 0 or null. */
  readonly kept: boolean;
  /** When the revision was made; null when that is not known. */
  readonly at: number | null;
  readonly sendMs: Percentiles | null;
  readonly receiveMs: Percentiles | null;
}

/** One revision's. */
export interface RevisionDelivery extends DeliveryCounts {
  readonly revision: number;
  readonly offset: number;
  readonly type: 'alert' | 'alert-update';
}

/** An alert's: its first message, and its newest revisions, newest first. */
export interface DeliveryReport extends DeliveryCounts {
  readonly alertId: string;
  readonly revisions: readonly RevisionDelivery[];
}

/** Puts together what the store knows; null when there is no such alert. Rejects as the store does. */
export async function reportDelivery(store: DeliveryStore, alertId: string): Promise<DeliveryReport | null> {
  const places = await store.places(ALERT_CHANNEL, alertId, REPORTED_REVISIONS);
  if (places === null) return null;
  const offsets = new Set(places.newest.map(({ offset }) => offset));
  if (places.first !== null) offsets.add(places.first.offset);
  return makeReport(alertId, places, offsets.size === 0 ? [] : await store.read(ALERT_CHANNEL, [...offsets]));
}

/** The report of an alert whose places and rows are given. Pure. */
export function makeReport(alertId: string, places: AlertPlaces, rows: readonly DeliveryRow[]): DeliveryReport {
  const countsAt = (place: RevisionPlace | null): DeliveryCounts => {
    const kept = place !== null && places.oldestKept !== null && place.offset >= places.oldestKept;
    const own = kept ? rows.filter((row) => row.offset === place.offset) : [];
    return { kept, at: place?.at ?? null, ...countsOf(own, place?.at ?? 0) };
  };
  return {
    alertId,
    ...countsAt(places.first),
    revisions: places.newest.map((place) => ({
      revision: place.revision,
      offset: place.offset,
      type: place.revision === 1 ? 'alert' : 'alert-update',
      ...countsAt(place),
    })),
  };
}

function countsOf(rows: readonly DeliveryRow[], at: number): Omit<DeliveryCounts, 'kept' | 'at'> {
  const sum = (pick: (row: DeliveryRow) => number): number => rows.reduce((total, row) => total + pick(row), 0);
  const firstSentAt = least(rows.map((row) => row.firstSentAt));
  const lastSentAt = greatest(rows.map((row) => row.lastSentAt));
  const firstReceivedAt = least(rows.map((row) => row.firstReceivedAt));
  const lastReceivedAt = greatest(rows.map((row) => row.lastReceivedAt));
  return {
    connected: sum((row) => row.connected),
    sent: sum((row) => row.sent),
    resent: sum((row) => row.resent),
    received: sum((row) => row.received),
    firstSentAt,
    lastSentAt,
    firstReceivedAt,
    lastReceivedAt,
    sendMs: percentiles(mergeSketches(rows.map((row) => row.send)), at, firstSentAt, lastSentAt),
    receiveMs: percentiles(mergeSketches(rows.map((row) => row.receive)), at, firstReceivedAt, lastReceivedAt),
  };
}

/** Clocks of two machines may differ by some ms: what seems to come before the message came with it. */
function percentiles(sketch: Sketch, at: number, first: number | null, last: number | null): Percentiles | null {
  if (first === null || last === null) return null;
  const max = Math.max(0, last - at);
  const [p50, p95, p99] = quantiles(sketch, [0.5, 0.95, 0.99], Math.max(0, first - at), max) ?? [];
  if (p50 === undefined || p95 === undefined || p99 === undefined) return null;
  return { p50: Math.round(p50), p95: Math.round(p95), p99: Math.round(p99), max };
}

function known(times: readonly (number | null)[]): number[] {
  return times.filter((time) => time !== null);
}

function least(times: readonly (number | null)[]): number | null {
  const all = known(times);
  return all.length === 0 ? null : Math.min(...all);
}

function greatest(times: readonly (number | null)[]): number | null {
  const all = known(times);
  return all.length === 0 ? null : Math.max(...all);
}
