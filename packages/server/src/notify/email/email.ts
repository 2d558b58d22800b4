/**
 * E-mail over SMTP: one message for each notice, to all recipients at once.
 *
 * A 4xx of the server means later, a 5xx never. When it takes the message for some recipients and not for others, it counts as sent and
 * `onRefused` hears how many it was refused for: sending it again would tell the others twice.
 */
import { createTransport } from 'nodemailer';
import { timeLimit } from '../../lib/time-limit.ts';
import { codeOf, type Notifier, type Outcome } from '../notifier.ts';
import { mailOf } from './message.ts';
import type { MailPlace } from './place.ts';

/** What it needs. */
export interface EmailOptions {
  readonly place: MailPlace;
  readonly from: string;
  readonly to: readonly string[];
  /** What Message-IDs end in. */
  readonly domain: string;
  readonly link: string | null;
  readonly onRefused: (recipients: number) => void;
  /** Certificates that are trusted beside the system's, PEM; for tests. */
  readonly ca?: string | undefined;
}

/** A greeting, TLS, a sign-in and a message are some round trips, and servers take their time to look at a message. */
const TIMEOUT_MS = 20_000;

/** Builds the destination `email`. */
export function createEmail({ place, from, to, domain, link, onRefused, ca }: EmailOptions): Notifier {
  const { host, port, tls, user, password } = place;
  const transport = createTransport({
    host,
    port,
    secure: tls === 'wrapped',
    requireTLS: tls === 'required',
    ignoreTLS: tls === 'off',
    ...(user === null || password === null ? {} : { auth: { user, pass: password } }),
    ...(ca === undefined ? {} : { tls: { ca } }),
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    dnsTimeout: TIMEOUT_MS,
    socketCloseTimeout: 0,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    kind: 'email',
    destination: 'email',
    timeoutMs: TIMEOUT_MS,
    join: () => 1,
    async post([notice], signal) {
      if (notice === undefined) return { kind: 'sent' };
      const { subject, text, messageId, references } = mailOf(notice, domain, link);
      const limit = timeLimit(signal, TIMEOUT_MS);
      try {
        const { rejected } = await transport.sendMail({
          from,
          to: [...to],
          subject,
          text,
          messageId,
          ...(references === undefined ? {} : { references, inReplyTo: references }),
          // RFC 3834 section 5; the other is what Exchange reads.
          headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
          signal: limit.signal,
        });
        if (rejected.length > 0) onRefused(rejected.length);
        return { kind: 'sent' };
      } catch (error) {
        return outcomeOfError(error);
      } finally {
        limit.clear();
      }
    },
    close: () => transport.close(),
  };
}

/** What an error of nodemailer means: the server's own number decides, where there is one. Pure. */
export function outcomeOfError(error: unknown): Outcome {
  const status: unknown = error instanceof Error && 'responseCode' in error ? error.responseCode : undefined;
  const code = codeOf(error);
  // Without TLS nothing was said of the message yet, whatever number the server gave.
  if (typeof status !== 'number' || code === 'ETLS') return { kind: 'later', reason: code };
  return { kind: status >= 500 && status < 600 ? 'refused' : 'later', reason: `smtp-${status}` };
}
