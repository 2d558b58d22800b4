/**
 * Sign-in of people: `POST /v1/auth/login`, `/refresh`, `/logout`, `/ticket`, `GET /v1/auth/session`.
 * What is decided is decided by the services; here is only the wire: members, the cookie, the origin.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { Role } from './access.ts';
import { addressKey } from './address.ts';
import { carriedAuthorization, readSessionCookie, requireOwnOrigin, sessionCookie } from './auth-carrier.ts';

/** Tokens as the services issue them. Times are Unix ms. */
export interface IssuedPair {
  readonly accessToken: string;
  readonly expiresAt: number;
  readonly refreshToken: string;
  readonly refreshExpiresAt: number;
}

/** Whose token it is. */
export interface TokenHolder {
  readonly kind: 'user' | 'device';
  readonly subject: string;
  readonly deviceId: string | null;
  readonly role: Role | null;
  readonly scope: string;
  readonly sessionId: string;
  readonly expiresAt: number;
}

/** What the routes need; everything throws a RefusalError. `address` is what limits count an address by. */
export interface AuthServices {
  signIn(request: { readonly email: string; readonly password: string; readonly address: string }): Promise<IssuedPair>;
  refresh(request: {
    readonly refreshToken: string;
    readonly fingerprint: string | null;
    readonly address: string;
  }): Promise<IssuedPair>;
  signOut(sessionId: string): Promise<void>;
  ticket(holder: {
    readonly id: string;
    readonly role: Role;
    readonly sessionId: string;
    readonly expiresAt: number;
  }): Promise<{ readonly ticket: string; readonly expiresInSeconds: number }>;
  /** Checks the header `Authorization` (undefined: missing). */
  holder(authorization: string | undefined): Promise<TokenHolder>;
  /** Unix ms. */
  now(): number;
  /** The origin of PUBLIC_URL, for instance `https://alarm.example`. */
  readonly publicOrigin: string;
}

interface LoginBody {
  readonly email: string;
  readonly password: string;
  readonly session?: 'cookie';
}

interface RefreshBody {
  readonly refresh_token: string;
  readonly fingerprint?: string;
}

interface LogoutBody {
  readonly device_id?: string;
  readonly block?: boolean;
}

const OWN = { access: { kind: 'own' } } as const;
const text = (most: number): TSchema => Type.String({ minLength: 1, maxLength: most });

const LoginSchema: TSchema = Type.Object(
  {
    email: text(LIMITS.emailCharacters.value),
    password: text(LIMITS.passwordCharacters.value),
    session: Type.Optional(Type.Literal('cookie')),
  },
  { additionalProperties: false },
);
const RefreshSchema: TSchema = Type.Object(
  { refresh_token: text(512), fingerprint: Type.Optional(text(LIMITS.fingerprintCharacters.value)) },
  { additionalProperties: false },
);
const LogoutSchema: TSchema = Type.Object(
  { device_id: Type.Optional(text(64)), block: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
);
const PairSchema: TSchema = Type.Object({
  access_token: Type.String(),
  refresh_token: Type.String(),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer({ description: 'seconds' }),
});
const SessionSchema: TSchema = Type.Object({
  subject: Type.String(),
  role: Type.Union([Type.String(), Type.Null()]),
  deviceId: Type.Union([Type.String(), Type.Null()]),
  scope: Type.String(),
  expiresAt: Type.Integer({ description: 'end of the access token, Unix ms' }),
});
const TicketSchema: TSchema = Type.Object({
  ticket: Type.String(),
  expires_in: Type.Integer({ description: 'seconds' }),
});
const tags = ['people'];

/** An absent body is an empty one. */
function allowNoBody(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  if (request.body === undefined) request.body = {};
  done();
}

/** Builds the routes. */
export function authRoutes(services: AuthServices): (app: FastifyInstance) => Promise<void> {
  const secure = services.publicOrigin.startsWith('https:');
  const secondsUntil = (at: number): number => Math.max(0, Math.ceil((at - services.now()) / 1000));
  const show = (pair: IssuedPair): object => ({
    access_token: pair.accessToken,
    refresh_token: pair.refreshToken,
    token_type: 'Bearer',
    expires_in: secondsUntil(pair.expiresAt),
  });
  const setCookie = (reply: FastifyReply, pair: IssuedPair): void => {
    reply.header('set-cookie', sessionCookie(pair.accessToken, secondsUntil(pair.refreshExpiresAt), secure));
  };
  const holderOf = (request: FastifyRequest): Promise<TokenHolder> =>
    services.holder(carriedAuthorization(request, services.publicOrigin));
  const addressOf = (request: FastifyRequest): string => addressKey(request.clientAddress);

  return async (app) => {
    const login = { summary: 'Signs a person in', tags, body: LoginSchema, response: { 200: PairSchema } };
    app.post<{ Body: LoginBody }>('/v1/auth/login', { config: OWN, schema: login }, async (request, reply) => {
      const { email, password, session } = request.body;
      if (session === 'cookie') requireOwnOrigin(request, services.publicOrigin, false);
      const pair = await services.signIn({ email, password, address: addressOf(request) });
      if (session === 'cookie') setCookie(reply, pair);
      return show(pair);
    });

    const refresh = {
      summary: 'A new pair for a refresh token',
      tags,
      body: RefreshSchema,
      response: { 200: PairSchema },
    };
    app.post<{ Body: RefreshBody }>('/v1/auth/refresh', { config: OWN, schema: refresh }, async (request, reply) => {
      const { refresh_token: refreshToken, fingerprint = null } = request.body;
      const pair = await services.refresh({ refreshToken, fingerprint, address: addressOf(request) });
      if (readSessionCookie(request.headers.cookie) !== undefined) setCookie(reply, pair);
      return show(pair);
    });

    const logout = {
      summary: 'Ends the session of the token it comes with',
      tags,
      body: LogoutSchema,
      security: BEARER,
      response: { 204: Type.Null() },
    };
    const logoutOptions = { config: OWN, schema: logout, preValidation: allowNoBody };
    app.post<{ Body: LogoutBody }>('/v1/auth/logout', logoutOptions, async (request, reply) => {
      const holder = await holderOf(request);
      const { device_id: deviceId, block = false } = request.body;
      const other = deviceId !== undefined && deviceId !== holder.deviceId;
      if (other || (block && holder.deviceId === null))
        throw refuse('device-mismatch', 'The token is not that of this device');
      await services.signOut(holder.sessionId);
      if (request.headers.cookie !== undefined) reply.header('set-cookie', sessionCookie('', 0, secure));
      return reply.code(204).send();
    });

    const session = {
      summary: 'Who the token belongs to',
      tags,
      security: BEARER,
      response: { 200: SessionSchema },
    };
    app.get('/v1/auth/session', { config: OWN, schema: session }, async (request) => {
      const { subject, role, deviceId, scope, expiresAt } = await holderOf(request);
      return { subject, role, deviceId, scope, expiresAt };
    });

    const ticket = {
      summary: 'A ticket to open one WebSocket with',
      tags,
      body: EMPTY,
      security: BEARER,
      response: { 200: TicketSchema },
    };
    const ticketOptions = { config: OWN, schema: ticket, preValidation: allowNoBody };
    app.post('/v1/auth/ticket', ticketOptions, async (request) => {
      const { kind, role, subject: id, sessionId, expiresAt } = await holderOf(request);
      if (kind !== 'user' || role === null) throw refuse('role-insufficient', 'Tickets are for people');
      const issued = await services.ticket({ id, role, sessionId, expiresAt });
      return { ticket: issued.ticket, expires_in: issued.expiresInSeconds };
    });
  };
}

/** As the description says it: `holderOf` looks at the bearer, or the cookie of our own pages. */
const BEARER = [{ bearer: [] }];
const EMPTY: TSchema = Type.Object({}, { additionalProperties: false });
