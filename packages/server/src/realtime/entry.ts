/** A channel's message on its way to viewers: its place, what filters look at, and its frame, built once. */
import { type Severity, severityRank } from '@tocsin/protocol/alert';
import type { ChannelMessage } from '../store/ports/channels.ts';
import { textFrame } from './frame.ts';

/** One message with its frame. */
export interface Entry {
  readonly offset: number;
  /** When it was made, Unix ms. */
  readonly at: number;
  readonly zoneId: string | null;
  /** Rank: extreme 4 … unknown 0. */
  readonly severity: number;
  readonly frame: Buffer;
}

/** What a viewer wants to see; null: everything. */
export interface Filter {
  readonly zone: string | null;
  readonly minSeverity: Severity | null;
}

/** Builds the frame of a message; `body` goes out as it is in the store. */
export function entryOf(message: ChannelMessage): Entry {
  const text = `{"type":${JSON.stringify(message.type)},"offset":${message.offset},"data":${message.body}}`;
  const { offset, createdAt: at, zoneId, severity } = message;
  return { offset, at, zoneId, severity, frame: textFrame(text) };
}

/** True when the filter lets the entry through: its zone exactly, its severity at least. */
export function passes(filter: Filter, entry: Pick<Entry, 'zoneId' | 'severity'>): boolean {
  if (filter.zone !== null && entry.zoneId !== filter.zone) return false;
  return filter.minSeverity === null || entry.severity >= severityRank(filter.minSeverity);
}

/** Viewers with equal keys see the same messages. */
export function filterKey(filter: Filter): string {
  return `${filter.minSeverity ?? ''}/${filter.zone ?? ''}`;
}
