/**
 * One connection: from its credential to its end.
 *
 * Its life is one tagged value: `preparing` (credential, perhaps the question why the last one failed), `shaking`
 * (handshake, until `welcome`), `greeted`, `ended`. Guarantees: `onEnd` is called once, unless it was let go; after it
 * nothing more comes. What the server sends is checked for its shape, its order and, where nothing is filtered, for holes.
 */
import type { ClientMessage, WelcomeMessage } from '@tocsin/protocol/messages';
import { type CredentialContext, type Credentials, CredentialsError, type SecretNeed } from './credentials.ts';
import type { Environment, Socket, SocketEnd } from './environment.ts';
import { createAge } from './age.ts';
import { createPulse, type Pulse } from './pulse.ts';
import { createRenewal, type Renewal } from './renewal.ts';
import { type Incoming, readServerMessage } from './server-message.ts';
import type { LinkEnd } from './verdict.ts';

/** The longest way from the credential to the welcome, in ms. */
export const HANDSHAKE_MS = 20_000;
/** Longer than this no server makes us wait for our turn to move, in ms. */
const MOVE_MOST_MS = 120_000;
/** Servers look at their channel once a second: from a shorter period nothing follows, in ms. */
const PERIOD_LEAST_MS = 1000;
/** Malformed messages of one connection that are borne. */
export const MALFORMED_MOST = 10;

/** A message about an alert. */
export type AlertMessage = Extract<Incoming, { type: 'alert' | 'alert-update' }>;

/** Where to go on. */
export interface ResumeFrom {
  readonly epoch: string;
  readonly offset: number;
}

/** What a connection is made of. */
export interface LinkOptions {
  readonly env: Environment;
  readonly credentials: Credentials;
  readonly context: CredentialContext;
  /** `wss://…/ws/alerts?…`, without what this connection adds. */
  readonly url: string;
  readonly resume: ResumeFrom | null;
  readonly need: SecretNeed;
  /** Ask `GET /v1/auth/session` first: the last handshake failed without a word. */
  readonly ask: boolean;
  /** False: offsets must not skip. */
  readonly filtered: boolean;
}

/** What a connection tells. */
export interface LinkEvents {
  greeted(link: Link, welcome: WelcomeMessage): void;
  /** `characters`: the size of the message as it came. */
  alert(link: Link, message: AlertMessage, characters: number): void;
  /** `sentAt`: when it was sent, by our monotonic clock, as far as the watermarks before it tell. */
  watermark(link: Link, offset: number, at: number, sentAt: number): void;
  /** It should make room within this time, in ms. */
  moving(link: Link, retryAfterMs: number): void;
  /** `lost`: it may have been an alert, and will not be asked for again. */
  malformed(link: Link, offset: number | null, lost: boolean): void;
  /** Messages after `offset` are missing; false: go on without them. */
  hole(link: Link, offset: number): boolean;
  duplicate(): void;
  /** An error of the server, its answer to a sign-in, or an error of the application's credentials. */
  error(error: unknown): void;
  ended(link: Link, end: LinkEnd): void;
}

/** One connection. */
export interface Link {
  readonly welcome: WelcomeMessage | null;
  /** The offset up to which it has brought everything. */
  readonly progress: number;
  /** The watermark period that it was told, in ms; 0 before that. */
  readonly periodMs: number;
  /** It brought a watermark. */
  readonly vouched: boolean;
  send(message: ClientMessage): void;
  probe(): void;
  /** Ends it with a reason of ours; `onEnd` follows at once. */
  drop(end: LinkEnd): void;
  /** Ends it in peace; nothing is told any more. */
  release(): void;
}

type State =
  | { readonly kind: 'preparing' }
  | { readonly kind: 'shaking'; readonly socket: Socket | null }
  | {
      readonly kind: 'greeted';
      readonly socket: Socket;
      readonly welcome: WelcomeMessage;
      readonly pulse: Pulse;
      readonly renewal: Renewal;
    }
  | { readonly kind: 'ended' };

/** Opens a connection. Nothing is told before the call has returned. */
export function openLink(options: LinkOptions, events: LinkEvents): Link {
  const { env, credentials, context, resume } = options;
  let state: State = { kind: 'preparing' };
  let progress = resume?.offset ?? 0;
  let periodMs = 0;
  let vouched = false;
  let malformed = 0;
  const age = createAge(env);
  let token: string | null = null;
  const cancelDeadline = env.after(HANDSHAKE_MS, () => drop({ kind: 'dropped', why: 'handshake-late' }));

  function leave(): boolean {
    const before = state;
    if (before.kind === 'ended') return false;
    state = { kind: 'ended' };
    cancelDeadline();
    if (before.kind === 'greeted') {
      before.pulse.stop();
      before.renewal.stop();
    }
    if (before.kind !== 'preparing') before.socket?.close();
    return true;
  }
  function drop(end: LinkEnd): void {
    if (leave()) events.ended(link, end);
  }
  function send(message: ClientMessage): void {
    if (state.kind === 'greeted') state.socket.send(JSON.stringify(message));
  }

  /** Null: go on; else why not. A 401 is worth one more secret. */
  async function question(): Promise<LinkEnd | null> {
    const cookies = credentials.kind === 'cookie';
    if (!options.ask || (credentials.kind !== 'token' && !cookies)) return null;
    const reply = await context.ask({ path: 'v1/auth/session', bearer: token, cookies });
    // No answer may also be a page of another origin that must not read it: only the handshake can tell.
    if (reply === null || reply.status === 200) return null;
    if (reply.status !== 401) return { kind: 'refused', status: reply.status, retryAfterMs: reply.retryAfterMs };
    if (cookies) return { kind: 'credentials', final: true, retryAfterMs: null };
    token = await credentials.secret('refused', context);
    return null;
  }

  async function prepare(): Promise<void> {
    try {
      token = await credentials.secret(options.need, context);
      const end = await question();
      if (end !== null) return drop(end);
    } catch (error) {
      const known = error instanceof CredentialsError ? error : null;
      if (known?.status === 0) return drop({ kind: 'closed', code: 1006 });
      if (known?.status !== null) events.error(error);
      return drop({ kind: 'credentials', final: known?.final === true, retryAfterMs: known?.retryAfterMs ?? null });
    }
    if (state.kind === 'preparing') shake();
  }

  function shake(): void {
    const url = new URL(options.url);
    if (resume !== null) {
      url.searchParams.set('epoch', resume.epoch);
      url.searchParams.set('offset', String(resume.offset));
    }
    if (credentials.kind === 'ticket' && token !== null) url.searchParams.set('ticket', token);
    state = { kind: 'shaking', socket: null };
    try {
      const bearer = credentials.kind === 'token' ? token : null;
      const socket = env.openSocket(url.href, bearer, { message: receive, closed });
      if (state.kind === 'shaking') state = { kind: 'shaking', socket };
    } catch {
      drop({ kind: 'unsupported' });
    }
  }

  function closed({ code, status, retryAfterMs }: SocketEnd): void {
    if (status !== null) drop({ kind: 'refused', status, retryAfterMs });
    else if (state.kind === 'shaking' && code === 1006) drop({ kind: 'unexplained' });
    else drop({ kind: 'closed', code });
  }

  function greet(welcome: WelcomeMessage, socket: Socket): void {
    cancelDeadline();
    const dead = (why: 'silent' | 'no-watermark'): void => drop({ kind: 'dropped', why });
    periodMs = Math.max(PERIOD_LEAST_MS, welcome.watermarkSeconds * 1000);
    const pulse = createPulse(env, periodMs, () => send({ type: 'ping' }), dead);
    const renewal = createRenewal({
      env,
      credentials,
      context,
      authenticate: (fresh) => send({ type: 'authenticate', token: fresh }),
      onMove: () => events.moving(link, 0),
      onError: events.error,
    });
    state = { kind: 'greeted', socket, welcome, pulse, renewal };
    progress = welcome.offset;
    renewal.until(welcome.reauthenticateBy);
    events.greeted(link, welcome);
  }

  function receive(text: string | null): void {
    if (state.kind === 'ended' || state.kind === 'preparing') return;
    const message = readServerMessage(text);
    if (message.type === 'malformed') return refuse(message.offset);
    if (state.kind === 'greeted' && message.type !== 'welcome') return act(message, text?.length ?? 0, state);
    // A welcome that is not the answer to what was asked, or not the first message, and anything else that is.
    const { socket } = state;
    const welcome = message.type === 'welcome' && state.kind === 'shaking' && socket !== null ? message : null;
    const resumed = welcome?.recovered !== true || resume === null || sameFrom(welcome, resume);
    if (welcome === null || socket === null || !resumed) return violate(null);
    greet(welcome, socket);
  }

  function violate(offset: number | null): void {
    events.malformed(link, offset, false);
    drop({ kind: 'dropped', why: 'violation' });
  }

  function refuse(offset: number | null): void {
    malformed += 1;
    if (state.kind !== 'greeted' || malformed > MALFORMED_MOST) return violate(offset);
    state.pulse.heard(false);
    // It is not delivered, but it was sent: what follows is no hole.
    const { filtered } = options;
    const lost = filtered || offset === progress + 1;
    if (!filtered && lost) progress += 1;
    events.malformed(link, offset, lost);
  }

  /** Moves on to an offset; false when the connection ended over it. */
  function advance(offset: number, expected: number): boolean {
    const hole = !options.filtered && offset > expected;
    if (hole && events.hole(link, progress)) {
      drop({ kind: 'dropped', why: 'hole' });
      return false;
    }
    progress = Math.max(progress, offset);
    return true;
  }

  function act(
    message: Exclude<Incoming, WelcomeMessage>,
    characters: number,
    greeted: State & { kind: 'greeted' },
  ): void {
    greeted.pulse.heard(message.type === 'watermark');
    switch (message.type) {
      case 'alert':
      case 'alert-update':
        if (message.offset <= progress) return events.duplicate();
        if (advance(message.offset, progress + 1)) events.alert(link, message, characters);
        return;
      case 'watermark':
        greeted.renewal.serverTime(message.at);
        if (!advance(message.offset, progress)) return;
        vouched = true;
        return events.watermark(link, message.offset, message.at, age(message.at));
      case 'unknown':
        if (message.offset !== null) advance(message.offset, progress + 1);
        return;
      case 'authenticated':
        return greeted.renewal.until(message.reauthenticateBy);
      case 'moving':
        return events.moving(link, Math.min(message.retryAfterMs, MOVE_MOST_MS));
      case 'error':
        if (!greeted.renewal.refused(message.code)) events.error(new Error(`server: ${message.code}`));
        return;
      case 'pong':
    }
  }

  const link: Link = {
    get welcome() {
      return state.kind === 'greeted' ? state.welcome : null;
    },
    get progress() {
      return progress;
    },
    get periodMs() {
      return periodMs;
    },
    get vouched() {
      return vouched;
    },
    send,
    probe() {
      if (state.kind === 'greeted') state.pulse.probe();
    },
    drop,
    release: () => void leave(),
  };
  // Later, so that whoever opened it holds it before anything is told.
  env.after(0, () => void prepare());
  return link;
}

function sameFrom(welcome: WelcomeMessage, resume: ResumeFrom): boolean {
  return welcome.epoch === resume.epoch && welcome.offset === resume.offset;
}
