/** Why a connection to the broker ended, or did not come about: the words of the log and of the metric. */
import { CodedError } from '../../lib/coded-error.ts';

/** The reasons. */
export const LINK_REASONS = [
  /** CA_CERT, CLIENT_CERT or CLIENT_KEY could not be read. */
  'files',
  /** The broker's name has no address. */
  'name',
  /** Nobody listens there, or there is no way. */
  'unreachable',
  /** Something took too long: to connect, an answer, a ping. */
  'timeout',
  /** One of both certificates was not accepted, or there is no TLS there. */
  'tls',
  /** The broker does not speak this version of MQTT. */
  'version',
  /** The connection ended, or nonsense came, before CONNACK. */
  'unanswered',
  /** CONNACK with an error. */
  'refused',
  /** SUBACK with an error, or with less than QoS 1. */
  'subscribe',
  /** The connection ended without a word, or with one (DISCONNECT). */
  'closed',
  /** Another client with our id connected. */
  'taken-over',
  /** What came is not MQTT as it must be. */
  'protocol',
  /** The slot is another process's now. */
  'lease',
  /** The store was away when it was needed to connect. */
  'store',
  /** The broker does not share subscriptions, and another process is connected. */
  'standby',
  'stopped',
] as const;

/** One of them. */
export type LinkReason = (typeof LINK_REASONS)[number];

/** A failure with its reason. */
export class LinkError extends CodedError {
  readonly reason: LinkReason;

  constructor(reason: LinkReason, message: string, options?: ErrorOptions) {
    super(`mqtt-${reason}`, message, options);
    this.reason = reason;
  }
}

const NAME_CODES: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA']);
const WAY_CODES: ReadonlySet<string> = new Set([
  ...['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'EADDRNOTAVAIL', 'EACCES', 'EPERM'],
]);
const END_CODES: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);
const DETAIL_MOST = 200;

/** What an error of a socket, of TLS or of the library means. */
export function linkError(error: unknown): LinkError {
  if (error instanceof LinkError) return error;
  const { message, code }: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error));
  const detail = message.slice(0, DETAIL_MOST);
  return new LinkError(reasonOf(typeof code === 'string' ? code : '', message), detail, { cause: error });
}

function reasonOf(code: string, message: string): LinkReason {
  if (code === 'store-unavailable') return 'store';
  if (NAME_CODES.has(code)) return 'name';
  if (WAY_CODES.has(code)) return 'unreachable';
  if (END_CODES.has(code)) return 'closed';
  if (code === 'ETIMEDOUT' || message === 'Keepalive timeout' || message === 'connack timeout') return 'timeout';
  // OpenSSL's names of what is wrong with a certificate have no prefix of their own.
  if (/^ERR_(SSL|TLS|OSSL)|CERT|^EPROTO$|SIGNATURE|CRL|^HOSTNAME_MISMATCH$|^INVALID_(CA|PURPOSE)$/.test(code))
    return 'tls';
  return 'protocol';
}
