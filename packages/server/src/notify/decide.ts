/**
 * Which messages of the channel a destination is told. Pure; the reason is the field of the log and the assertion of tests.
 *
 * Told are: the first message of an alert that is severe enough (which may be a later revision, when the first was not), a
 * revision by which it became worse than was told, and that it was resolved, if anything was told before. An alert that is
 * resolved only because the next one says the same of its host (`evidence.ended.reason` is `again`) is not over.
 */
import {
  type Alert,
  ALERT_KINDS,
  ALERT_STATES,
  ALERT_STATUSES,
  SEVERITIES,
  severityRank,
} from '@tocsin/protocol/alert';
import type { NoticeEvent } from '../store/ports/notifications.ts';

/** What a destination wants. */
export interface Wants {
  /** Rank of the least severity. */
  readonly least: number;
  /** Kinds of which only the first message is told. */
  readonly firstOnly: readonly string[];
}

/** Why a message is told, or not. */
export type Decision =
  | { readonly tell: true; readonly event: NoticeEvent; readonly reason: 'first' | 'worse' | 'resolved' }
  | {
      readonly tell: false;
      readonly reason: 'below-severity' | 'not-worse' | 'never-told' | 'first-only' | 'told-again';
    };

/** Decides by the rank of the worst severity that was told of the alert, undefined when nothing was. */
export function decide(
  alert: Pick<Alert, 'kind' | 'severity' | 'state' | 'evidence'>,
  told: number | undefined,
  { least, firstOnly }: Wants,
): Decision {
  const rank = severityRank(alert.severity);
  if (alert.state === 'resolved') {
    if (told === undefined) return { tell: false, reason: 'never-told' };
    if (firstOnly.includes(alert.kind)) return { tell: false, reason: 'first-only' };
    if (isToldAgain(alert.evidence)) return { tell: false, reason: 'told-again' };
    return { tell: true, event: 'resolved', reason: 'resolved' };
  }
  if (told === undefined) {
    return rank < least ? { tell: false, reason: 'below-severity' } : { tell: true, event: 'raised', reason: 'first' };
  }
  if (firstOnly.includes(alert.kind)) return { tell: false, reason: 'first-only' };
  return rank > told ? { tell: true, event: 'updated', reason: 'worse' } : { tell: false, reason: 'not-worse' };
}

function isToldAgain({ ended }: Alert['evidence']): boolean {
  return typeof ended === 'object' && ended !== null && 'reason' in ended && ended.reason === 'again';
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isTextOrNull = (value: unknown): boolean => value === null || isText(value);
const isOf = (list: readonly string[], value: unknown): boolean => isText(value) && list.includes(value);

/** The alert of a message's body; null when it is none that this version can tell of. */
export function readAlert(body: string): Alert | null {
  let alert: Partial<Record<keyof Alert, unknown>> | null;
  try {
    alert = JSON.parse(body) as typeof alert;
  } catch {
    return null;
  }
  if (typeof alert !== 'object' || alert === null) return null;
  const { id, kind, severity, status, state, revision, headline, description, zoneId, deviceId, evidence } = alert;
  const fine =
    isText(id) &&
    isOf(ALERT_KINDS, kind) &&
    isOf(SEVERITIES, severity) &&
    isOf(ALERT_STATUSES, status) &&
    isOf(ALERT_STATES, state) &&
    Number.isSafeInteger(revision) &&
    Number.isSafeInteger(alert.updatedAt) &&
    Number.isSafeInteger(alert.onset) &&
    isText(headline) &&
    isText(description) &&
    isTextOrNull(zoneId) &&
    isTextOrNull(deviceId) &&
    typeof evidence === 'object' &&
    evidence !== null;
  return fine ? (alert as Alert) : null;
}
