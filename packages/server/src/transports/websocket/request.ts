/** Reads a handshake: its form (RFC 6455 section 4.2.1), its path, its parameters, its origin. Pure; nothing is echoed. */
import type { IncomingMessage } from 'node:http';
import { SEVERITIES } from '@tocsin/protocol/alert';
import type { Refusal } from '@tocsin/protocol/errors';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { hostProblem } from '../http/server-socket.ts';
import type { ViewerFilter } from './options.ts';

/** The path of the channel of alerts. */
export const ALERTS_PATH = '/ws/alerts';
/** The path of the live state of hosts. */
export const DEVICES_PATH = '/ws/devices';
/** The path of its raw form, on `WS_PORT` only. */
export const RAW_PATH = '/';

/** The longest epoch that is kept; a longer one is nobody's, cut or whole. */
const EPOCH_CHARACTERS = 64;
/** A list of subprotocols: tokens of RFC 9110 section 5.6.2 with commas between them, none of them empty. */
const PROTOCOLS = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*$/;
const KEY = /^[+/0-9A-Za-z]{22}==$/;
/** Above what a number holds exactly it is above every head, too. */
const INTEGER = /^(0|[1-9][0-9]{0,63})$/;

/** What a viewer asks for. */
export interface ViewerRequest {
  readonly filter: ViewerFilter;
  readonly resume: { readonly epoch: string; readonly offset: number } | null;
}

const malformed = (detail: string): Refusal => ({ code: 'malformed-parameter', detail });

/** Path and parameters of a request target; null when it is none. */
export function readTarget(target: string | undefined): URL | null {
  if (target === undefined || !target.startsWith('/') || target.startsWith('//')) return null;
  try {
    return new URL(target, 'http://server');
  } catch {
    return null;
  }
}

/** The parts of a request that its form is judged by. */
export type HandshakeForm = Pick<IncomingMessage, 'method' | 'headers' | 'rawHeaders' | 'httpVersionMinor'>;

/** Each subprotocol is a token, and offered once (RFC 6455 section 4.1). */
function wellFormedProtocols(list: string): boolean {
  if (!PROTOCOLS.test(list)) return false;
  const names = list.split(',').map((name) => name.trim());
  return new Set(names).size === names.length;
}

/** Why this is no handshake of WebSocket version 13, or null. */
export function refuseForm(request: HandshakeForm): Refusal | null {
  const { headers } = request;
  const host = hostProblem(request);
  if (host !== null) return { code: 'malformed-request', detail: host };
  if (request.method !== 'GET') return { code: 'method-not-allowed', detail: 'A WebSocket handshake is a GET' };
  // RFC 6455 section 4.1: HTTP/1.1 at least.
  if (request.httpVersionMinor === 0) {
    return { code: 'malformed-request', detail: 'A WebSocket handshake is HTTP/1.1' };
  }
  if (headers.upgrade?.toLowerCase() !== 'websocket' || headers['sec-websocket-version'] !== '13') {
    return { code: 'upgrade-required', detail: 'This path speaks WebSocket version 13 only' };
  }
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) return malformed('The header Sec-WebSocket-Key is malformed');
  const protocols = headers['sec-websocket-protocol'];
  if (protocols !== undefined && !wellFormedProtocols(protocols)) {
    return malformed('The header Sec-WebSocket-Protocol is malformed');
  }
  return null;
}

/** What the parameters ask for, or why they are refused. `filters`: whether there are any on this path. */
export function readParameters(query: URLSearchParams, filters: boolean): ViewerRequest | Refusal {
  if (!filters && (query.has('zone') || query.has('minSeverity')))
    return malformed('There are no filters on this path');
  const zone = query.get('zone');
  if (zone !== null && !isIdentifier(zone)) return malformed('zone is not an identifier');
  const severity = query.get('minSeverity');
  const minSeverity = SEVERITIES.find((known) => known === severity) ?? null;
  if (severity !== null && minSeverity === null) return malformed(`minSeverity is one of ${SEVERITIES.join(', ')}`);
  const epoch = query.get('epoch');
  const offset = query.get('offset');
  const filter: ViewerFilter = { zone, minSeverity };
  if (epoch === null && offset === null) return { filter, resume: null };
  if (epoch === null || offset === null) return malformed('epoch and offset belong together');
  if (!INTEGER.test(offset)) return malformed('offset is not an integer from 0 on');
  const resume = {
    epoch: epoch.slice(0, EPOCH_CHARACTERS + 1),
    offset: Math.min(Number(offset), Number.MAX_SAFE_INTEGER),
  };
  return { filter, resume };
}

/** The origin of a URL, or null when it has none. */
export function originOf(url: string): string | null {
  try {
    const { origin } = new URL(url);
    return origin === 'null' ? null : origin;
  } catch {
    return null;
  }
}

/** True when there is no origin, or it is one of `allowed` (origins as {@link originOf} gives them). */
export function originAllowed(origin: string | undefined, allowed: ReadonlySet<string>): boolean {
  if (origin === undefined) return true;
  const normal = originOf(origin);
  return normal !== null && allowed.has(normal);
}
