/**
 * What to do with the next messages of the channel for one destination. Pure.
 *
 * A plan begins with a stretch that nothing is posted for (passed over, too old, or settled before and not written down), or with
 * notices that may be posted; in any case it ends before whatever comes after, and is made anew from there.
 */
import { severityRank } from '@tocsin/protocol/alert';
import type { ChannelMessage } from '../store/ports/channels.ts';
import type { NewDeadLetter, Told } from '../store/ports/notifications.ts';
import { decide, readAlert, type Wants } from './decide.ts';
import type { Notice } from './notifier.ts';
import { TELL_WITHIN_MS } from './retry.ts';

/** What was posted and could not be written down: told, or refused for a reason. */
export type Settled = { readonly kind: 'told' } | { readonly kind: 'dead'; readonly reason: string };

/** What a plan is made of. */
export interface PlanInput {
  readonly messages: readonly ChannelMessage[];
  /** Rank of the worst severity told, by alert. */
  readonly told: ReadonlyMap<string, number>;
  readonly wants: Wants;
  /** By offset. */
  readonly settled: ReadonlyMap<number, Settled>;
  readonly now: number;
}

/** The first piece of work. */
export type Plan =
  | { readonly kind: 'nothing' }
  | {
      readonly kind: 'pass';
      readonly to: number;
      readonly told: readonly Told[];
      readonly dead: readonly NewDeadLetter[];
    }
  /** Notices in order; those passed over between them need nothing. */
  | { readonly kind: 'post'; readonly waiting: readonly Notice[] };

type Verdict =
  | { readonly kind: 'skip' }
  | { readonly kind: 'told'; readonly told: Told }
  | { readonly kind: 'dead'; readonly letter: NewDeadLetter }
  | { readonly kind: 'notice'; readonly notice: Notice };

/** Plans from the first message on. */
export function planNext({ messages, told, wants, settled, now }: PlanInput): Plan {
  const standing = new Map(told);
  const waiting: Notice[] = [];
  const passed = { to: 0, told: [] as Told[], dead: [] as NewDeadLetter[] };
  for (const message of messages) {
    const verdict = judge(message, standing, wants, settled.get(message.offset), now);
    if (verdict.kind === 'notice') {
      if (passed.to > 0) break;
      waiting.push(verdict.notice);
      note(standing, toldOf(verdict.notice));
      continue;
    }
    if (waiting.length > 0) {
      if (verdict.kind === 'skip') continue;
      break;
    }
    passed.to = message.offset;
    if (verdict.kind === 'told') {
      passed.told.push(verdict.told);
      note(standing, verdict.told);
    }
    if (verdict.kind === 'dead') passed.dead.push(verdict.letter);
  }
  if (waiting.length > 0) return { kind: 'post', waiting };
  return passed.to === 0 ? { kind: 'nothing' } : { kind: 'pass', ...passed };
}

/** The notice of a message, as the first of its alert; null when it is no alert that this version knows. */
export function noticeOf(message: ChannelMessage, event: Notice['event']): Notice | null {
  const alert = readAlert(message.body);
  if (alert === null) return null;
  return { key: `${alert.id}.${alert.revision}`, offset: message.offset, event, alert, body: message.body };
}

/** What is to be remembered once a notice was told. */
export function toldOf({ alert, event }: Notice): Told {
  return { alertId: alert.id, severity: severityRank(alert.severity), over: event === 'resolved' };
}

/** The dead letter of a notice. */
export function letterOf({ offset, alert, event }: Notice, reason: string): NewDeadLetter {
  return { offset, alertId: alert.id, revision: alert.revision, event, reason };
}

function judge(
  message: ChannelMessage,
  standing: ReadonlyMap<string, number>,
  wants: Wants,
  settled: Settled | undefined,
  now: number,
): Verdict {
  const notice = noticeOf(message, 'raised');
  if (notice === null) return { kind: 'skip' };
  const decision = decide(notice.alert, standing.get(notice.alert.id), wants);
  if (!decision.tell) return { kind: 'skip' };
  const decided: Notice = { ...notice, event: decision.event };
  if (settled?.kind === 'told') return { kind: 'told', told: toldOf(decided) };
  if (settled?.kind === 'dead') return { kind: 'dead', letter: letterOf(decided, settled.reason) };
  if (now - message.createdAt > TELL_WITHIN_MS) return { kind: 'dead', letter: letterOf(decided, 'too-old') };
  return { kind: 'notice', notice: decided };
}

function note(standing: Map<string, number>, { alertId, severity, over }: Told): void {
  if (over) standing.delete(alertId);
  else standing.set(alertId, Math.max(severity, standing.get(alertId) ?? 0));
}
