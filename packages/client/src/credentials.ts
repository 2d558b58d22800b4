/**
 * Who the viewer is: one function for each way of saying so. What they answer is passed to `connectAlerts`.
 *
 * Secrets stay in memory. A token goes into a header or a subprotocol, never into a URL; a ticket, which is good for one
 * use, goes into the URL because it is made for that.
 */
import type { Ask, Reply } from './http.ts';

/** Why a secret is asked for. `refused`: the server did not take the last one, it has to be another. */
export type SecretNeed = 'connect' | 'reauthenticate' | 'refused';

/** What credentials may use. */
export interface CredentialContext {
  readonly ask: Ask;
  /** Milliseconds of a clock that nobody sets. */
  monotonic(): number;
}

/** How a viewer says who it is. */
export interface Credentials {
  readonly kind: 'token' | 'ticket' | 'cookie' | 'none';
  /** The secret to carry now; null when there is nothing to carry. Rejects with a {@link CredentialsError}, or with anything
   *  else, which counts as one that may pass. */
  secret(need: SecretNeed, context: CredentialContext): Promise<string | null>;
}

/** There is no secret. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  /** True: asking again is of no use. */
  readonly final: boolean;
  readonly retryAfterMs: number | null;
  /** What the server answered; 0: nothing, as when the network is lost; null: nobody was asked. */
  readonly status: number | null;

  constructor(message: string, final: boolean, retryAfterMs: number | null = null, status: number | null = null) {
    super(message);
    this.final = final;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
  }
}

/**
 * Access tokens that the application gets by itself. `provider` is called for every connection, before a token ends, and
 * with `refused` when the server did not take the last one; the same token again then, or none, ends the viewer.
 */
export function accessToken(provider: (need: SecretNeed) => string | null | Promise<string | null>): Credentials {
  let last: string | null = null;
  return {
    kind: 'token',
    async secret(need) {
      const token = await provider(need);
      // An application that has nobody signed in any more has nothing to say.
      if (!token || (need === 'refused' && token === last)) throw new CredentialsError('no other token', true);
      last = token;
      return token;
    },
  };
}

/** Tickets for one connection each (`POST /v1/auth/ticket`), which the application's own server hands out. */
export function tickets(provider: () => string | Promise<string>): Credentials {
  return { kind: 'ticket', secret: async () => provider() };
}

/** The cookie `tocsin_session`, in pages of the server's own origin. The application keeps the session alive. */
export function cookieSession(): Credentials {
  return { kind: 'cookie', secret: async () => null };
}

/** Nobody: for servers with `WS_PUBLIC_ALERTS`. */
export function anybody(): Credentials {
  return { kind: 'none', secret: async () => null };
}

/** A pair of tokens with its age. */
interface Pair {
  readonly access: string;
  readonly refresh: string;
  readonly bornAt: number;
  readonly lifeMs: number;
  /** A refresh was not answered: the refresh token may be spent. */
  doubtful?: boolean;
}

/** The share of an access token's life that has to be left. */
const LEFT: Readonly<Record<SecretNeed, number>> = { connect: 0.2, reauthenticate: 0.5, refused: 2 };

function readPair(reply: Reply, bornAt: number): Pair | null {
  const { access_token: access, refresh_token: refresh, expires_in: seconds } = reply.body;
  if (typeof access !== 'string' || typeof refresh !== 'string' || typeof seconds !== 'number') return null;
  return { access, refresh, bornAt, lifeMs: seconds * 1000 };
}

/**
 * E-mail and password. Signs in once, then renews the tokens before they end, one request at a time however many want
 * one; signs in again when the session was ended by an old refresh token.
 */
export function login(person: { readonly email: string; readonly password: string }): Credentials {
  let pair: Pair | null = null;
  let running: Promise<string> | null = null;

  const left = (now: number): number => (pair === null ? -1 : (pair.bornAt + pair.lifeMs - now) / pair.lifeMs);

  /** The status of the answer (0: none); stores the pair it brought. */
  async function request({ ask, monotonic }: CredentialContext, path: string, body: object): Promise<[number, Reply?]> {
    const bornAt = monotonic();
    const reply = await ask({ path, body });
    if (reply === null) return [0];
    if (reply.status === 200) pair = readPair(reply, bornAt) ?? pair;
    return [reply.status, reply];
  }

  async function renew(context: CredentialContext, need: SecretNeed): Promise<string> {
    // A refresh token that may be spent already ends the session when it comes again, and with it the open connection.
    if (pair !== null && !(pair.doubtful && need === 'reauthenticate')) {
      const { refresh } = pair;
      const [status, reply] = await request(context, 'v1/auth/refresh', { refresh_token: refresh });
      if (status === 200) return pair.access;
      const away = status === 0 || status >= 500;
      pair.doubtful ||= away;
      // No word on the session: what is there still may do.
      const unsure = away || status === 429;
      if (unsure && need !== 'refused' && left(context.monotonic()) > 0) return pair.access;
      if (unsure) throw new CredentialsError(`refresh was answered with ${status}`, false, reply?.retryAfterMs, status);
      pair = null;
    }
    const { email, password } = person;
    const [status, reply] = await request(context, 'v1/auth/login', { email, password });
    if (pair !== null) return pair.access;
    const final = status >= 400 && status < 500 && status !== 429 && status !== 408;
    throw new CredentialsError(`sign-in was answered with ${status}`, final, reply?.retryAfterMs, status);
  }

  return {
    kind: 'token',
    async secret(need, context) {
      if (running !== null) return running;
      if (pair !== null && left(context.monotonic()) > LEFT[need]) return pair.access;
      running = renew(context, need).finally(() => {
        running = null;
      });
      return running;
    },
  };
}
