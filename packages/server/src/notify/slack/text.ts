/**
 * What Slack is told of alerts, a line for each. Pure. The line of `host.cpu` is the contract's (`wire.md` section 4) to the letter.
 */
import type { Alert, Severity } from '@tocsin/protocol/alert';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Notice } from '../notifier.ts';
import { escapeMrkdwn } from './mrkdwn.ts';

/** Notices that are posted one by one; when more wait, they are joined: Slack takes about one post a second. */
const SINGLE_MOST = 10;
/** Lines of a joined post. */
const LINES_MOST = 100;
/** Slack cuts a text after 40,000 characters (docs.slack.dev, "Truncating content"); room for one more line stays. */
export const TEXT_CHARACTERS = 38_000;
/** Longest id that a line shows. */
const ID_CHARACTERS = 64;

const SIGNS: Readonly<Record<Severity, string>> = {
  extreme: ':rotating_light:',
  severe: ':rotating_light:',
  moderate: ':warning:',
  minor: ':information_source:',
  unknown: ':information_source:',
};

/** The line of a notice. `link` is where people find alerts, if anywhere: the alert's id follows it. */
export function lineOf({ alert, event }: Pick<Notice, 'alert' | 'event'>, link: string | null): string {
  // Nobody may take it for the real thing.
  const mark = alert.status === 'exercise' ? 'EXERCISE: ' : '';
  return `${mark}${(event === 'raised' ? cpuLine(alert) : null) ?? alertLine(alert, event, link)}`;
}

/** Null for another kind, or for evidence that lacks the numbers. */
function cpuLine({ kind, deviceId, evidence }: Alert): string | null {
  const { cpu_percent: cpu, mem_percent: memory } = evidence;
  if (kind !== 'host.cpu' || deviceId === null || typeof cpu !== 'number' || typeof memory !== 'number') return null;
  const id = escapeMrkdwn(deviceId, ID_CHARACTERS);
  return `:rotating_light: CPU ALERT at ${id} \u2014 CPU ${cpu.toFixed(1)}%, RAM ${memory}%`;
}

function alertLine(alert: Alert, event: Notice['event'], link: string | null): string {
  const { severity, headline, zoneId, deviceId, onset, updatedAt, id } = alert;
  const sign = event === 'resolved' ? ':white_check_mark:' : SIGNS[severity];
  const word = severity.toUpperCase();
  const what = { raised: word, updated: `NOW ${word}`, resolved: 'RESOLVED' }[event];
  const parts = [
    `${sign} *${what}* ${escapeMrkdwn(headline, LIMITS.headlineCharacters.value)}`,
    ...(zoneId === null ? [] : [`zone ${escapeMrkdwn(zoneId, ID_CHARACTERS)}`]),
    ...(deviceId === null ? [] : [`device ${escapeMrkdwn(deviceId, ID_CHARACTERS)}`]),
    timeOf(event === 'raised' ? onset : updatedAt),
    ...(link === null ? [] : [`<${link}${encodeURIComponent(id)}|${escapeMrkdwn(id, ID_CHARACTERS)}>`]),
  ];
  return parts.join(' \u2014 ');
}

/** `2026-11-28 19:30:00 UTC`; a time that is none shows nothing. */
function timeOf(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime())
    ? 'at an unknown time'
    : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** How many of the first notices go into one post: one, or all that fit when more than {@link SINGLE_MOST} wait. */
export function joined(waiting: readonly Notice[], link: string | null): number {
  if (waiting.length <= SINGLE_MOST) return 1;
  let characters = 0;
  let count = 0;
  for (const notice of waiting.slice(0, LINES_MOST)) {
    characters += lineOf(notice, link).length + 1;
    if (characters > TEXT_CHARACTERS) break;
    count += 1;
  }
  return Math.max(1, count);
}
