/**
 * Decides about a handshake before the upgrade: who it is, what they ask for, or why not.
 *
 * Order, cheap refusals first: path (404), form (405, 426, 400), draining (503), origin (403), handshakes of the address in
 * this process (429, before anything that takes I/O), connections of the address (429), parameters (400), credential (401, 403), reconnects (429), channel (503). A refusal leaves no place taken.
 */
import { ERRORS, type Refusal } from '@tocsin/protocol/errors';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { IncomingMessage } from 'node:http';
import type { BucketShape } from '../../bus/ports/bus.ts';
import { addressKey, createAddressReader } from '../http/address.ts';
import type { CertificateDoubt, ClientCertificate } from '../http/client-certificate.ts';
import { refusalOf } from '../http/problem.ts';
import type { Admission } from './admission.ts';
import { type Carrier, type CarrierRules, chooseCarrier } from './carrier.ts';
import type {
  HubPlan,
  ViewerFilter,
  WebSocketChannel,
  WebSocketChannels,
  WebSocketOptions,
  WebSocketPrincipal,
} from './options.ts';
import { originAllowed, originOf, readParameters, readTarget, refuseForm } from './request.ts';

/**
 * Handshakes of one address in this process: so many times its connections at once, and as many again in so many seconds. A
 * flood ends here, at the price of a look into a map; clients in good order never meet it.
 */
const HANDSHAKES_EACH = 10;
const HANDSHAKES_LEAST = 1000;
const HANDSHAKES_MOST = 1_000_000;
const HANDSHAKES_SECONDS = 10;

/** A handshake that may go on. */
export interface Admitted {
  readonly path: string;
  readonly channel: WebSocketChannel;
  readonly address: string;
  readonly addressKey: string;
  readonly principal: WebSocketPrincipal | null;
  /** Whom the limits of users count: the device when the token has one; null for anybody. */
  readonly holder: string | null;
  readonly filter: ViewerFilter;
  readonly plan: HubPlan;
}

/** Decides about handshakes. Never rejects. */
export interface Handshakes {
  /** `channels`: those of the listener; `connection`: the id that takes the places. */
  decide(
    request: IncomingMessage,
    channels: WebSocketChannels,
    connection: string,
    draining: boolean,
  ): Promise<Admitted | Refusal>;
}

/** True for a refusal. */
export function isRefusal(value: Admitted | Refusal | HubPlan): value is Refusal {
  return 'code' in value;
}

/** Whom per-user limits count. */
function holderOf(principal: WebSocketPrincipal | null): string | null {
  if (principal === null) return null;
  return principal.deviceId === null ? `user:${principal.subject}` : `device:${principal.deviceId}`;
}

/** The path as metrics may name it. */
export function pathLabel(target: string | undefined, channels: WebSocketChannels): string {
  const path = readTarget(target)?.pathname;
  return path !== undefined && channels.has(path) ? path : 'other';
}

const DOUBTS: Readonly<Record<CertificateDoubt, string>> = {
  unverified: 'The client certificate was not issued by a CA that counts here',
  expired: 'The client certificate is not valid now',
  'earlier-ca': 'The client certificate was checked against an earlier CA; connect anew',
  'too-many-names': 'The client certificate has names that cannot be read, or too many',
};

function notHere(channels: WebSocketChannels): Refusal {
  return {
    code: 'not-found',
    detail: `There is no WebSocket at this path; there is at ${[...channels.keys()].join(', ')}`,
  };
}

/** What is missing where no credential counts. Called only when there is none: a token in the query is not allowed then. */
function missing(query: URLSearchParams, { access }: WebSocketChannel): string {
  if (access === 'token') return 'The token of this path is needed (WS_AUTH_TOKEN)';
  if (query.has('token')) return 'A token in the URL does not count here (WS_ALLOW_QUERY_TOKEN)';
  return 'A token, a ticket, a session or a client certificate is needed';
}

/** Whose certificate it is. A certificate that is not believed is refused: it is the carrier that decides. */
async function verifyCertificate(
  { certificates }: WebSocketOptions,
  certificate: ClientCertificate,
): Promise<WebSocketPrincipal> {
  if (certificates === undefined) throw new TypeError('nobody reads certificates here');
  if (certificate.doubt !== null) throw refuse('credentials-wrong', DOUBTS[certificate.doubt]);
  return certificates.verify(certificate);
}

const NOT_THE_TOKEN = 'The token in the URL is not that of this path';

/** Carriers of a token as such. */
function isBearer(
  carrier: Exclude<Carrier, { kind: 'none' | 'foreign-cookie' }>,
): carrier is Extract<Carrier, { secret: string }> {
  return carrier.kind === 'subprotocol' || carrier.kind === 'authorization' || carrier.kind === 'query';
}

/** Creates the decisions. Throws when `publicUrl` is no URL. */
export function createHandshakes(options: WebSocketOptions, admission: Admission): Handshakes {
  const { settings } = options;
  const publicOrigin = originOf(settings.publicUrl);
  if (publicOrigin === null) throw new TypeError('publicUrl has no origin');
  const rulesFor = ({ opens }: WebSocketChannel): CarrierRules => ({
    publicOrigin,
    allowQueryToken: settings.allowQueryToken || opens !== undefined,
  });
  const origins: ReadonlySet<string> = new Set(settings.allowedOrigins.flatMap((origin) => originOf(origin) ?? []));
  const readAddress = createAddressReader(settings.trustedProxies);
  const each = HANDSHAKES_EACH * settings.maxConnectionsPerAddress;
  const burst = Math.min(HANDSHAKES_MOST, Math.max(HANDSHAKES_LEAST, each));
  const flood: BucketShape = { ratePerSecond: burst / HANDSHAKES_SECONDS, burst };

  function knock(addressOfPeer: string): Refusal | null {
    const { allowed, retryAfterMs } = options.door.take(addressOfPeer, flood);
    if (allowed) return null;
    const quota = { name: 'handshakes', quota: burst, windowSeconds: HANDSHAKES_SECONDS };
    return { code: 'rate-limited', detail: 'Too many handshakes from this address', retryAfterMs, quota };
  }

  function verify(carrier: Exclude<Carrier, { kind: 'none' | 'foreign-cookie' }>): Promise<WebSocketPrincipal> {
    if (carrier.kind === 'certificate') return verifyCertificate(options, carrier.certificate);
    if (carrier.kind === 'ticket') return options.redeemTicket(carrier.secret);
    if (carrier.kind === 'cookie') return (options.verifySessionCookie ?? options.verifyAccessToken)(carrier.secret);
    return options.verifyAccessToken(carrier.secret);
  }

  /** Who it is; null: somebody without a name, whom the channel lets in. */
  async function identify(
    request: IncomingMessage,
    query: URLSearchParams,
    channel: WebSocketChannel,
  ): Promise<WebSocketPrincipal | null | Refusal> {
    if (channel.access === 'token') return checkToken(query, channel);
    const readCertificate = (): ClientCertificate | null =>
      options.certificates?.of(request.socket, options.clock.now()) ?? null;
    const carrier = chooseCarrier(request.headers, query, rulesFor(channel), readCertificate);
    const open = channel.access === 'anyone';
    if (carrier.kind === 'none') return open ? null : { code: 'credentials-missing', detail: missing(query, channel) };
    if (carrier.kind === 'foreign-cookie') {
      if (open) return null;
      return { code: 'origin-forbidden', detail: 'The session cookie counts only with our own origin' };
    }
    if (isBearer(carrier) && channel.opens?.(carrier.secret) === true) return null;
    if (carrier.kind === 'query' && !settings.allowQueryToken) return { code: 'token-invalid', detail: NOT_THE_TOKEN };
    const principal = await verify(carrier);
    if (principal.role !== null) return principal;
    return { code: 'role-insufficient', detail: 'This path is for people' };
  }

  function checkToken(query: URLSearchParams, channel: WebSocketChannel): null | Refusal {
    if (channel.opens === undefined) return null;
    const token = query.get('token');
    if (token === null) return { code: 'credentials-missing', detail: missing(query, channel) };
    return channel.opens(token) ? null : { code: 'token-invalid', detail: NOT_THE_TOKEN };
  }

  function early(
    request: IncomingMessage,
    channels: WebSocketChannels,
    draining: boolean,
  ): { readonly target: URL; readonly channel: WebSocketChannel } | Refusal {
    const target = readTarget(request.url);
    const channel = target === null ? undefined : channels.get(target.pathname);
    if (target === null || channel === undefined) return notHere(channels);
    const form = refuseForm(request);
    if (form !== null) return form;
    if (draining) return { code: 'draining', detail: ERRORS.draining.title };
    if (originAllowed(request.headers.origin, origins)) return { target, channel };
    return { code: 'origin-forbidden', detail: 'The origin of the page is not in WS_ALLOWED_ORIGINS' };
  }

  async function decideWithPlace(
    request: IncomingMessage,
    { target, channel }: { readonly target: URL; readonly channel: WebSocketChannel },
    address: string,
  ): Promise<Omit<Admitted, 'addressKey'> | Refusal> {
    const asked = readParameters(target.searchParams, channel.filters);
    if ('code' in asked) return asked;
    const principal = await identify(request, target.searchParams, channel);
    if (principal !== null && 'code' in principal) return principal;
    const holder = holderOf(principal);
    const path = target.pathname;
    const refusal = holder === null ? null : await admission.countConnect(path, holder);
    if (refusal !== null) return refusal;
    const plan = await channel.hub.plan(asked.resume);
    if (isRefusal(plan)) return plan;
    return { path, channel, address, principal, holder, filter: asked.filter, plan };
  }

  return {
    async decide(request, channels, connection, draining) {
      const found = early(request, channels, draining);
      if ('code' in found) return found;
      const address = readAddress(request.socket.remoteAddress, request.headers['x-forwarded-for']);
      const key = addressKey(address);
      const full = knock(key) ?? (await admission.enterAddress(key, connection));
      if (full !== null) return full;
      let decided: Omit<Admitted, 'addressKey'> | Refusal;
      try {
        decided = await decideWithPlace(request, found, address);
      } catch (error) {
        const known = refusalOf(error);
        if (known === null) options.log.error({ err: error }, 'handshake failed');
        decided = known ?? { code: 'internal', detail: ERRORS.internal.title };
      }
      if (!('code' in decided)) return { ...decided, addressKey: key };
      admission.leaveAddress(key, connection);
      return decided;
    },
  };
}
