/** A world for a viewer: time that a test moves, sockets and answers that it scripts, signatures that it can forge. */
import type { Environment, HttpInit, HttpResponse, Socket, SocketEvents, Subtle } from './environment.ts';
import type { ViewerAlert } from './alert-shape.ts';
import { type Credentials, accessToken } from './credentials.ts';
import type { ConnectOptions } from './options.ts';
import { type Alerts, createViewer } from './viewer.ts';

/** A socket that the viewer asked for. */
export interface ScriptedSocket {
  readonly url: URL;
  readonly bearer: string | null;
  readonly sent: Record<string, unknown>[];
  /** The viewer ended it. */
  readonly left: boolean;
  say(message: object | string): void;
  /** The server's end. */
  end(code: number): void;
  /** An HTTP answer in place of the upgrade, as Node sees it. */
  refuse(status: number, retryAfterMs?: number): void;
}

/** How a scripted route answers; null: there is no answer. */
export interface ScriptedAnswer {
  readonly status: number;
  readonly body?: unknown;
  readonly retryAfter?: string;
}
export type Route = (init: HttpInit, url: URL) => ScriptedAnswer | null;

export interface World {
  readonly env: Environment;
  readonly sockets: ScriptedSocket[];
  /** By path. */
  readonly routes: Map<string, Route>;
  readonly asked: string[];
  /** Timers that are due some time. */
  timers(): number;
  advance(ms: number): Promise<void>;
  /** Time passes without any timer running, as in a page that sleeps. */
  sleep(ms: number): void;
  wake(): void;
  newest(): ScriptedSocket;
  random: number;
  /** Lets what is pending in microtasks happen. */
  settle(): Promise<void>;
}

const base64url = (text: string): string => Buffer.from(text).toString('base64url');
export const JWK = { kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid: 'k1', purpose: 'alert' };
const GOOD = Buffer.alloc(64, 1).toString('base64url');
const BAD = Buffer.alloc(64, 255).toString('base64url');

/** A signature that the world's verifier takes, or not. */
export const signature = (kid = 'k1', good = true): string =>
  `${base64url(JSON.stringify({ alg: 'ES256', kid }))}..${good ? GOOD : BAD}`;

/** An alert with this offset; each offset has its own id unless it is given. */
export function alertAt(offset: number, more: Partial<ViewerAlert> = {}): ViewerAlert {
  return {
    id: `01KACD5R00TESTVECT0R${String(offset).padStart(6, '0')}`,
    kind: 'operator.drill',
    severity: 'severe',
    status: 'exercise',
    state: 'open',
    revision: 1,
    offset,
    headline: `alert ${offset}`,
    description: '',
    zoneId: null,
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: 1,
    sentAt: 1_000_000 + offset,
    updatedAt: 1_000_000 + offset,
    fingerprint: '0'.repeat(64),
    evidence: {},
    signature: signature(),
    ...more,
  };
}

export const alertMessage = (offset: number, more: Partial<ViewerAlert> = {}): object => {
  const data = alertAt(offset, more);
  return { type: data.revision === 1 ? 'alert' : 'alert-update', offset, data };
};

export const welcome = (offset: number, more: object = {}): object => ({
  type: 'welcome',
  connection: 'c',
  channel: 'alerts',
  epoch: 'e1',
  offset,
  recovered: true,
  heartbeatSeconds: 30,
  watermarkSeconds: 10,
  reauthenticateBy: 1_000_000 + 86_400_000,
  ...more,
});

export const watermark = (offset: number, at = 1_000_000): object => ({ type: 'watermark', offset, at });

function respond(answer: ScriptedAnswer | null): HttpResponse {
  if (answer === null) throw new TypeError('network');
  const bytes = new TextEncoder().encode(JSON.stringify(answer.body ?? {}));
  let done = false;
  const read = async (): Promise<{ done: boolean; value?: Uint8Array }> => {
    if (done) return { done };
    done = true;
    return { done: false, value: bytes };
  };
  return {
    status: answer.status,
    headers: { get: (name) => (name === 'retry-after' ? (answer.retryAfter ?? null) : null) },
    body: { getReader: () => ({ read, cancel: () => undefined }) },
  };
}

const SUBTLE: Subtle = {
  importKey: async (_format, key) => key,
  verify: async (_algorithm, _key, given) => given[0] !== 255,
};

function scriptedSocket(url: string, bearer: string | null, events: SocketEvents): ScriptedSocket & Socket {
  const sent: Record<string, unknown>[] = [];
  let left = false;
  let over = false;
  const close = (code: number, status: number | null, retryAfterMs: number | null): void => {
    if (over) return;
    over = true;
    events.closed({ code, status, retryAfterMs });
  };
  return {
    url: new URL(url),
    bearer,
    sent,
    get left() {
      return left;
    },
    say(message) {
      if (!over) events.message(typeof message === 'string' ? message : JSON.stringify(message));
    },
    end: (code) => close(code, null, null),
    refuse: (status, retryAfterMs) => close(1006, status, retryAfterMs ?? null),
    send(text) {
      if (!over) sent.push(JSON.parse(text) as Record<string, unknown>);
    },
    close() {
      left = true;
    },
  };
}

/** Makes a world. `subtle` null: a page over plain http. */
export function createWorld(subtle: Subtle | null = SUBTLE): World {
  let now = 0;
  let nextId = 0;
  const timers = new Map<number, { at: number; work: () => void }>();
  const wakers = new Set<() => void>();
  const sockets: ScriptedSocket[] = [];
  const asked: string[] = [];
  const routes = new Map<string, Route>([
    ['/.well-known/jwks.json', () => ({ status: 200, body: { keys: [JWK] } })],
    ['/v1/auth/session', () => ({ status: 200 })],
  ]);

  const world: World = {
    sockets,
    routes,
    asked,
    random: 0.5,
    env: {
      now: () => 1_000_000 + now,
      monotonic: () => now,
      random: () => world.random,
      after(ms, work) {
        const id = nextId++;
        timers.set(id, { at: now + ms, work });
        return () => void timers.delete(id);
      },
      async fetch(url, init) {
        const target = new URL(url);
        asked.push(`${init.method} ${target.pathname}`);
        const route = routes.get(target.pathname);
        return respond(route === undefined ? { status: 404 } : route(init, target));
      },
      subtle,
      openSocket(url, bearer, events) {
        const socket = scriptedSocket(url, bearer, events);
        sockets.push(socket);
        return socket;
      },
      onWake(listener) {
        wakers.add(listener);
        return () => void wakers.delete(listener);
      },
    },
    timers: () => timers.size,
    async settle() {
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    },
    async advance(ms) {
      const until = now + ms;
      await world.settle();
      for (;;) {
        const due = [...timers]
          .filter(([, timer]) => timer.at <= until)
          .sort((a, b) => a[1].at - b[1].at || a[0] - b[0]);
        const [first] = due;
        if (first === undefined) break;
        timers.delete(first[0]);
        now = Math.max(now, first[1].at);
        first[1].work();
        await world.settle();
      }
      now = until;
    },
    sleep(ms) {
      now += ms;
    },
    wake() {
      for (const listener of wakers) listener();
    },
    newest() {
      const socket = sockets.at(-1);
      if (socket === undefined) throw new Error('there is no socket');
      return socket;
    },
  };
  return world;
}

/** What an application heard. */
export interface Heard {
  readonly alerts: Alerts;
  /** Headlines with the event: `alert 7`, `update 7`. */
  readonly got: string[];
  readonly states: string[];
  readonly transitions: string[];
  readonly events: { name: string; detail: unknown }[];
}

/** Connects and listens. Opens nothing until time passes. */
export function watch(world: World, options: Partial<ConnectOptions> = {}): Heard {
  const credentials: Credentials = options.credentials ?? accessToken(() => 'jwt');
  const alerts = createViewer(world.env, { url: 'https://a.test', credentials, ...options });
  const heard: Heard = { alerts, got: [], states: [], transitions: [], events: [] };
  for (const name of ['alert', 'update'] as const) {
    alerts.on(name, (alert) => void heard.got.push(`${name} ${alert.offset}`));
  }
  alerts.on('state', (state, { reason }) => void heard.states.push(`${state}: ${reason}`));
  alerts.on('transition', ({ from, to, reason }) => void heard.transitions.push(`${from} -> ${to}: ${reason}`));
  for (const name of ['gap', 'stopped', 'violation', 'error'] as const) {
    alerts.on(name, (detail: unknown) => void heard.events.push({ name, detail }));
  }
  return heard;
}

/** Connects and is welcomed at `offset`. */
export async function watchFrom(
  world: World,
  offset: number,
  options: Partial<ConnectOptions> = {},
  more: object = {},
): Promise<Heard> {
  const heard = watch(world, options);
  await world.advance(0);
  world.newest().say(welcome(offset, more));
  await world.settle();
  return heard;
}
