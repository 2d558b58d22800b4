/**
 * Where a handshake carries its credential. The first carrier that is present decides; a wrong token in it is not
 * followed by a look at the next. Pure.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { ClientCertificate } from '../http/client-certificate.ts';

/** The protocol's name as a subprotocol. */
export const SUBPROTOCOL = 'tocsin.v1';
/** The cookie of a browser session. */
export const SESSION_COOKIE = 'tocsin_session';

const BEARER_PREFIX = 'bearer.';

/** What a handshake shows. */
export type Carrier =
  | { readonly kind: 'subprotocol' | 'authorization' | 'cookie' | 'ticket' | 'query'; readonly secret: string }
  | { readonly kind: 'certificate'; readonly certificate: ClientCertificate }
  | { readonly kind: 'foreign-cookie' }
  | { readonly kind: 'none' };

/** What decides which carriers count. */
export interface CarrierRules {
  /** The origin of `PUBLIC_URL`. */
  readonly publicOrigin: string;
  readonly allowQueryToken: boolean;
}

/** The subprotocols offered, in order. */
export function offeredProtocols(header: string | undefined): string[] {
  return header === undefined ? [] : header.split(',').map((part) => part.trim());
}

/** The subprotocol to answer: `tocsin.v1`, else `bearer`, else none; never a token. */
export function answerProtocol(offered: Iterable<string>): string | false {
  const all = new Set(offered);
  if (all.has(SUBPROTOCOL)) return SUBPROTOCOL;
  for (const protocol of all) if (protocol === 'bearer' || protocol.startsWith(BEARER_PREFIX)) return 'bearer';
  return false;
}

function fromProtocols(offered: readonly string[]): string | null {
  for (const [index, protocol] of offered.entries()) {
    if (protocol.startsWith(BEARER_PREFIX)) return protocol.slice(BEARER_PREFIX.length);
    if (protocol === 'bearer') return offered[index + 1] ?? '';
  }
  return null;
}

function fromCookies(header: string | undefined): string | null {
  for (const part of header?.split(';') ?? []) {
    const at = part.indexOf('=');
    if (at > 0 && part.slice(0, at).trim() === SESSION_COOKIE) return part.slice(at + 1).trim();
  }
  return null;
}

/**
 * The first carrier present. A cookie that came with another origin counts only as a reason to refuse. `readCertificate`
 * answers the client's certificate, null for none; it is called when nothing before it is there.
 */
export function chooseCarrier(
  headers: IncomingHttpHeaders,
  query: URLSearchParams,
  rules: CarrierRules,
  readCertificate: () => ClientCertificate | null,
): Carrier {
  const protocol = fromProtocols(offeredProtocols(headers['sec-websocket-protocol']));
  if (protocol !== null) return { kind: 'subprotocol', secret: protocol };
  const bearer = /^bearer +(.*)$/i.exec(headers.authorization ?? '');
  if (bearer !== null) return { kind: 'authorization', secret: (bearer[1] ?? '').trim() };
  const certificate = readCertificate();
  if (certificate !== null) return { kind: 'certificate', certificate };
  const cookie = fromCookies(headers.cookie);
  if (cookie !== null && headers.origin === rules.publicOrigin) return { kind: 'cookie', secret: cookie };
  const ticket = query.get('ticket');
  if (ticket !== null) return { kind: 'ticket', secret: ticket };
  const token = rules.allowQueryToken ? query.get('token') : null;
  if (token !== null) return { kind: 'query', secret: token };
  return cookie === null ? { kind: 'none' } : { kind: 'foreign-cookie' };
}
