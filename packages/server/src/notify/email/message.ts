/**
 * A notice as an e-mail: plain text, no attachments. Pure.
 *
 * Guarantees: the subject is one line and bounded; `Message-ID` is made of the notice's key, so that a message that is sent twice is the
 * same one to whoever reads it; later ones of an alert refer to its first, so that they are shown as one conversation.
 */
import type { Alert } from '@tocsin/protocol/alert';
import type { Notice } from '../notifier.ts';

/** What a mail says, without who it goes to. */
export interface MailText {
  readonly subject: string;
  readonly text: string;
  readonly messageId: string;
  readonly references: string | undefined;
}

const SUBJECT_CHARACTERS = 150;
const TEXT_CHARACTERS = 6000;
const UNSEEN = /[\u0000-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069\u2028\u2029]+|\p{Surrogate}/gu;

/** Builds it. `domain` is what ids end in; `link` is where people find alerts: the alert's id follows it. */
export function mailOf({ key, alert, event }: Notice, domain: string, link: string | null): MailText {
  const { id, severity, status, headline, revision } = alert;
  const word = { raised: severity.toUpperCase(), updated: `NOW ${severity.toUpperCase()}`, resolved: 'RESOLVED' }[
    event
  ];
  const marks = [...(status === 'exercise' ? ['EXERCISE'] : []), word].map((mark) => `[${mark}]`);
  return {
    subject: oneLine(`${marks.join(' ')} ${headline}`, SUBJECT_CHARACTERS),
    text: bodyOf(alert, event, link),
    messageId: `<${key}@${domain}>`,
    references: revision === 1 ? undefined : `<${id}.1@${domain}>`,
  };
}

function bodyOf(alert: Alert, event: Notice['event'], link: string | null): string {
  const rows: readonly (readonly [string, string | null])[] = [
    ['Severity', alert.severity],
    ['Kind', alert.kind],
    ['State', alert.state],
    ['Zone', alert.zoneId],
    ['Device', alert.deviceId],
    ['Onset', timeOf(alert.onset)],
    ['As of', timeOf(alert.updatedAt)],
    ['Alert', `${alert.id}, revision ${alert.revision}`],
    ['Where', link === null ? null : `${link}${encodeURIComponent(alert.id)}`],
  ];
  const facts = rows.flatMap(([name, value]) =>
    value === null ? [] : [`${`${name}:`.padEnd(10)}${oneLine(value, 500)}`],
  );
  const first = {
    raised: 'A new alert.',
    updated: 'An alert became worse than you were told before.',
    resolved: 'An alert that you were told of is resolved.',
  }[event];
  const exercise = alert.status === 'exercise' ? ['THIS IS AN EXERCISE.', ''] : [];
  const texts = [alert.headline, alert.description]
    .map((text) => oneLine(text, TEXT_CHARACTERS))
    .filter((text) => text !== '');
  return [...exercise, first, '', ...texts.flatMap((text) => [text, '']), ...facts, ''].join('\n');
}

function oneLine(text: string, most: number): string {
  const clean = text
    .slice(0, 4 * most)
    .replace(UNSEEN, ' ')
    .trim();
  const plain = Array.from(clean);
  return plain.length > most ? `${plain.slice(0, most - 1).join('')}…` : plain.join('');
}

function timeOf(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? 'unknown' : date.toISOString();
}
