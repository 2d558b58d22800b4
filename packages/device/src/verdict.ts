/**
 * What an answer means for the envelope and for the device: one table, pure. `docs/device-sdk.md` shows its rows.
 *
 * Guarantee: every answer that there can be has a verdict. Nothing is given up because of an answer that is not our
 * server's own (a proxy's page, a captive portal): only a problem document with a code of ours sets an envelope aside, and
 * only a 202 that names the envelope counts as success.
 */
import type { ErrorCode, ErrorDetail } from '@tocsin/protocol/errors';
import { ERRORS } from '@tocsin/protocol/errors';
import type { TimeSample } from './clock.ts';

/** Why there was no answer. */
export type FailureReason =
  | 'timeout'
  | 'connection-refused'
  | 'connection-lost'
  | 'name-unknown'
  | 'tls-failed'
  | 'answer-too-large'
  | 'broker-refused';

/** What came back for one envelope. */
export type Answer =
  | {
      readonly kind: 'answered';
      readonly status: number;
      /** `code` of the problem document, where there is one. */
      readonly code: string | null;
      /** True when the body of a 202 names the envelope that was sent. */
      readonly named: boolean;
      readonly detail: string;
      readonly errors: readonly ErrorDetail[];
      readonly retryAfterMs: number | null;
      readonly sample: TimeSample | null;
    }
  | { readonly kind: 'acknowledged' }
  | { readonly kind: 'failed'; readonly reason: FailureReason };

/** The name of a verdict's ground: a code of the server's, or one of ours. */
export type Reason =
  | ErrorCode
  | FailureReason
  | 'accepted'
  | 'acknowledged'
  | 'busy'
  | 'redirected'
  | 'server-error'
  | 'unexpected-answer';

/**
 * - `delivered`: durable; forget it.
 * - `resign`: learn the time from this answer, sign anew and send at once, with the same id.
 * - `wait`: everything waits, as long as the server says, else longer each time. `own`: it may be this envelope's fault,
 *   so it also lets others pass.
 * - `hold`: nobody but an operator can mend it; everything waits long, nothing is dropped.
 * - `set-aside`: this envelope will never be taken; it goes to the dead letters.
 *
 * The names are those of the test vectors (`packages/protocol/fixtures/answers.json`).
 */
export type Verdict =
  | { readonly action: 'delivered' | 'resign' | 'hold' | 'set-aside'; readonly reason: Reason }
  | { readonly action: 'wait'; readonly reason: Reason; readonly own: boolean };

type Action = Verdict['action'];

/** Refusals by code; `wait-own`: see {@link Verdict}. A new row in the table of errors does not compile before it has one here. */
const BY_CODE: Readonly<Record<ErrorCode, Action | 'wait-own'>> = {
  'malformed-json': 'set-aside',
  'malformed-jws': 'set-aside',
  'malformed-request': 'set-aside',
  'malformed-parameter': 'set-aside',
  'device-id-missing': 'set-aside',
  'api-key-missing': 'hold',
  'api-key-unknown': 'hold',
  'credentials-missing': 'hold',
  'credentials-wrong': 'hold',
  'token-invalid': 'hold',
  'token-expired': 'hold',
  'token-type': 'hold',
  'session-revoked': 'hold',
  'signature-invalid': 'hold',
  'subscription-required': 'hold',
  'scope-insufficient': 'hold',
  'role-insufficient': 'hold',
  'device-unknown': 'hold',
  'device-inactive': 'hold',
  'device-quarantined': 'hold',
  'device-revoked': 'hold',
  'device-mismatch': 'hold',
  'envelope-stale': 'resign',
  'envelope-future': 'resign',
  'origin-forbidden': 'hold',
  'not-found': 'hold',
  'method-not-allowed': 'hold',
  'request-timeout': 'wait-own',
  replay: 'delivered',
  'id-conflict': 'set-aside',
  'already-exists': 'wait-own',
  'limit-reached': 'wait-own',
  'last-admin': 'wait-own',
  'zone-in-use': 'wait-own',
  'transition-forbidden': 'wait-own',
  'body-too-large': 'set-aside',
  'content-type': 'set-aside',
  schema: 'set-aside',
  'device-blocked': 'hold',
  'upgrade-required': 'hold',
  'device-cap': 'wait',
  'rate-limited': 'wait',
  'headers-too-large': 'hold',
  internal: 'wait-own',
  overloaded: 'wait',
  'store-unavailable': 'wait',
  starting: 'wait',
  draining: 'wait',
};

/** The verdict on `answer`. */
export function judge(answer: Answer): Verdict {
  switch (answer.kind) {
    case 'acknowledged':
      return { action: 'delivered', reason: 'acknowledged' };
    case 'failed':
      if (answer.reason === 'broker-refused') return { action: 'hold', reason: answer.reason };
      return { action: 'wait', reason: answer.reason, own: answer.reason === 'answer-too-large' };
    case 'answered':
      return judgeStatus(answer.status, answer.code, answer.named);
  }
}

function judgeStatus(status: number, code: string | null, named: boolean): Verdict {
  if (status === 202 && named) return { action: 'delivered', reason: 'accepted' };
  if (isOurs(code) && ERRORS[code].status === status) {
    const action = BY_CODE[code];
    if (action === 'wait-own') return { action: 'wait', reason: code, own: true };
    return action === 'wait' ? { action, reason: code, own: false } : { action, reason: code };
  }
  if (status === 429 || status === 503) return { action: 'wait', reason: 'busy', own: false };
  if (status >= 500) return { action: 'wait', reason: 'server-error', own: true };
  if (status >= 300 && status < 400) return { action: 'wait', reason: 'redirected', own: false };
  return { action: 'wait', reason: 'unexpected-answer', own: true };
}

function isOurs(code: string | null): code is ErrorCode {
  return code !== null && Object.hasOwn(ERRORS, code);
}

/** One row of the table for people. */
export interface VerdictRow {
  readonly answer: string;
  readonly action: Action;
  /** Others go first then. */
  readonly own: boolean;
  readonly reason: Reason;
}

const FAILURES: readonly (readonly [FailureReason, string])[] = [
  ['timeout', 'none in time'],
  ['connection-refused', 'nobody listens'],
  ['connection-lost', 'the connection broke, also in mid-answer'],
  ['name-unknown', 'the name of the server is not known'],
  ['tls-failed', 'the certificate does not check'],
  ['answer-too-large', 'more than 64 KiB'],
  ['broker-refused', 'MQTT: the broker refuses the connection'],
];

/** Every answer with its verdict, for `docs/device-sdk.md`. */
export function verdictRows(): readonly VerdictRow[] {
  const row = (answer: string, verdict: Verdict): VerdictRow => ({
    answer,
    action: verdict.action,
    own: verdict.action === 'wait' && verdict.own,
    reason: verdict.reason,
  });
  const foreign = (status: number): Verdict => judgeStatus(status, null, false);
  return [
    row('202 that names the envelope', judgeStatus(202, null, true)),
    row('MQTT: PUBACK', judge({ kind: 'acknowledged' })),
    ...Object.entries(ERRORS).map(([code, { status }]) =>
      row(`${status} \`${code}\``, judgeStatus(status, code, false)),
    ),
    row('429 or 503 without a code of ours', foreign(503)),
    row('other 5xx without a code of ours', foreign(502)),
    row('3xx (never followed)', foreign(302)),
    row('anything else', foreign(200)),
    ...FAILURES.map(([reason, answer]) => row(answer, judge({ kind: 'failed', reason }))),
  ];
}

/** What a system call's or TLS error's code means. */
export function failureOf(code: string): FailureReason {
  if (code === 'ECONNREFUSED') return 'connection-refused';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'name-unknown';
  if (code === 'ETIMEDOUT') return 'timeout';
  return /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/.test(code)
    ? 'tls-failed'
    : 'connection-lost';
}
