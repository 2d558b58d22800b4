import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alertOf, idOf, noticeFor } from '../notices.suite.ts';
import { outcomeOfError } from './email.ts';
import { mailOf } from './message.ts';
import { readMailPlace } from './place.ts';

describe('the e-mail of a notice', () => {
  it('says what the alert says', () => {
    const { subject, text, messageId, references } = mailOf(noticeFor(alertOf()), 'tocsin.example.org', 'https://t/a/');
    expect(subject).toBe('[SEVERE] Earthquake near Foligno');
    expect(messageId).toBe(`<${idOf(1)}.1@tocsin.example.org>`);
    expect(references).toBeUndefined();
    expect(text).toBe(
      [
        'A new alert.',
        '',
        'Earthquake near Foligno',
        '',
        'Magnitude 5.1',
        '',
        'Severity: severe',
        'Kind:     seismic.event',
        'State:    open',
        'Zone:     umbria',
        'Onset:    2026-11-28T19:30:00.000Z',
        'As of:    2026-11-28T19:30:00.000Z',
        `Alert:    ${idOf(1)}, revision 1`,
        `Where:    https://t/a/${idOf(1)}`,
        '',
      ].join('\n'),
    );
  });

  it('refers to the first one of its alert', () => {
    const alert = alertOf({ revision: 4, state: 'resolved', status: 'exercise' });
    const mail = mailOf(noticeFor(alert, 'resolved'), 'd', null);
    expect(mail).toMatchObject({ references: `<${idOf(1)}.1@d>`, messageId: `<${idOf(1)}.4@d>` });
    expect(mail.subject).toBe('[EXERCISE] [RESOLVED] Earthquake near Foligno');
    expect(mail.text).toMatch(/^THIS IS AN EXERCISE\.\n/);
  });

  it('has a subject of one bounded line, whatever the headline', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(fc.nat(0x10ffff)).map((points) => String.fromCodePoint(...points)),
          fc.constant(`x\r\nBcc: a@b.example\r\n\r\n${'y'.repeat(500)}`),
        ),
        (headline) => {
          const { subject } = mailOf(noticeFor(alertOf({ headline })), 'd', null);
          expect(subject).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
          expect(Array.from(subject).length).toBeLessThanOrEqual(150);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('a mail server', () => {
  it.each([
    [
      'smtps://u:p%40ss@mail.example.org',
      { host: 'mail.example.org', port: 465, tls: 'wrapped', user: 'u', password: 'p@ss' },
    ],
    ['smtp://mail.example.org', { host: 'mail.example.org', port: 587, tls: 'required', user: null, password: null }],
    ['smtp://mail.example.org:25?tls=off', { port: 25, tls: 'off' }],
    ['smtp://localhost:2525', { port: 2525, tls: 'off' }],
    ['smtp://[::1]:2525', { host: '::1', tls: 'off' }],
    ['smtp://127.0.0.1.example.org', { tls: 'required' }],
  ])('is read from %s', (text, place) => {
    expect(readMailPlace(text)).toMatchObject(place);
  });

  it.each([
    ...['', 'mail.example.org', 'http://mail.example.org', 'smtp://', 'smtp://u@h', 'smtp://:p@h', 'smtp://h/path'],
    ...['smtp://h?ignoreTLS=true', 'smtps://h?tls=off', 'smtp://h#x', 'smtp://%ff:x@h'],
  ])('is none in %j', (text) => {
    expect(readMailPlace(text)).toBeUndefined();
  });
});

describe('an error of the mail server', () => {
  const error = (more: object): Error => Object.assign(new Error('secret text of the server'), more);
  it.each([
    [
      { code: 'EENVELOPE', responseCode: 451 },
      { kind: 'later', reason: 'smtp-451' },
    ],
    [
      { code: 'EENVELOPE', responseCode: 550 },
      { kind: 'refused', reason: 'smtp-550' },
    ],
    [
      { code: 'ETLS', responseCode: 502 },
      { kind: 'later', reason: 'ETLS' },
    ],
    [{ code: 'ETIMEDOUT' }, { kind: 'later', reason: 'ETIMEDOUT' }],
    [{}, { kind: 'later', reason: 'failed' }],
  ])('%j means %j', (more, outcome) => {
    expect(outcomeOfError(error(more))).toEqual(outcome);
  });
});
