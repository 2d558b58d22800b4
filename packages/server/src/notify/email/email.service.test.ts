import { createAuthority, LOCAL_NAMES } from '@tocsin/testkit/certificates';
import { type MailServer, type MailServerOptions, startMailServer } from '@tocsin/testkit/mail-server';
import { afterEach, describe, expect, test } from 'vitest';
import { alertOf, idOf, noticeFor } from '../notices.suite.ts';
import type { Notifier } from '../notifier.ts';
import { createEmail } from './email.ts';
import type { MailPlace } from './place.ts';

describe('an e-mail', () => {
  let server: MailServer;
  let email: Notifier;
  let refused: number;
  afterEach(async () => {
    email.close();
    await server.stop();
  });
  const signal = new AbortController().signal;
  const begin = async (options: MailServerOptions, place: Partial<MailPlace> = {}, ca?: string): Promise<void> => {
    server = await startMailServer(options);
    refused = 0;
    email = createEmail({
      place: { host: 'localhost', port: server.port, tls: 'off', user: null, password: null, ...place },
      from: 'tocsin@example.org',
      to: ['ops@example.org', 'night@example.org'],
      domain: 'tocsin.example.org',
      link: null,
      onRefused: (recipients) => void (refused += recipients),
      ca,
    });
  };

  test('is handed over with an id that stays the same, and says that a machine wrote it', async () => {
    await begin({});
    const notice = noticeFor(alertOf({ headline: '.dots\r\nBcc: x@example.org', revision: 2 }), 'updated');
    expect(await email.post([notice], signal)).toEqual({ kind: 'sent' });
    expect(await email.post([notice], signal)).toEqual({ kind: 'sent' });
    const [mail, again] = server.mails;
    expect(mail).toMatchObject({
      from: 'tocsin@example.org',
      to: ['ops@example.org', 'night@example.org'],
      login: null,
    });
    const head = mail?.text.split('\r\n\r\n', 1)[0]?.replaceAll('\r\n ', ' ') ?? '';
    expect(head).toContain(`Message-ID: <${idOf(1)}.2@tocsin.example.org>`);
    expect(head).toContain(`References: <${idOf(1)}.1@tocsin.example.org>`);
    expect(head).toContain('Auto-Submitted: auto-generated');
    expect(head).toContain('Subject: [NOW SEVERE] .dots Bcc: x@example.org');
    expect(head).not.toMatch(/^Bcc/im);
    expect(again?.text).toContain(`Message-ID: <${idOf(1)}.2@tocsin.example.org>`);
  });

  test('is put off by a 4xx and a cut connection, and is dead by a 5xx', async () => {
    await begin({});
    server.script('451 try later', 'close', '554 no');
    const outcomes = [];
    for (let n = 0; n < 3; n += 1) outcomes.push(await email.post([noticeFor(alertOf())], signal));
    expect(outcomes).toEqual([
      { kind: 'later', reason: 'smtp-451' },
      { kind: 'later', reason: 'ECONNECTION' },
      { kind: 'refused', reason: 'smtp-554' },
    ]);
    expect(server.mails).toEqual([]);
  });

  test('counts as sent when some recipients are refused, and as dead when all are', async () => {
    await begin({});
    server.refuse('ops@example.org');
    expect(await email.post([noticeFor(alertOf())], signal)).toEqual({ kind: 'sent' });
    expect([refused, server.mails[0]?.to]).toEqual([1, ['night@example.org']]);
    server.refuse('night@example.org');
    expect(await email.post([noticeFor(alertOf())], signal)).toEqual({ kind: 'refused', reason: 'smtp-550' });
  });

  test('goes nowhere without TLS where TLS is required, nor to a server that shows a certificate of somebody else', async () => {
    await begin({}, { tls: 'required' });
    expect(await email.post([noticeFor(alertOf())], signal)).toMatchObject({ kind: 'later' });
    expect(server.mails).toEqual([]);
    await server.stop();
    const authority = createAuthority();
    const tls = authority.issue({ names: LOCAL_NAMES });
    await begin({ tls }, { tls: 'required' });
    expect(await email.post([noticeFor(alertOf())], signal)).toMatchObject({ kind: 'later' });
    expect(server.mails).toEqual([]);
    await server.stop();
    await begin({ tls }, { tls: 'required', user: 'u', password: 'p@ss' }, authority.ca);
    expect(await email.post([noticeFor(alertOf())], signal)).toEqual({ kind: 'sent' });
    expect(server.mails[0]).toMatchObject({ encrypted: true, login: 'u\0p@ss' });
    authority.remove();
  });

  test('is given up when it is told to end', async () => {
    await begin({});
    const abort = new AbortController();
    abort.abort();
    expect(await email.post([noticeFor(alertOf())], abort.signal)).toEqual({ kind: 'later', reason: 'EABORT' });
  });
});
