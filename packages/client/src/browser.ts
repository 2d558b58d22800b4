/**
 * `@tocsin/client`: the viewer SDK for browsers. Nothing foreign, nothing of Node.
 *
 *     const alerts = connectAlerts({ url: 'https://alerts.example.org', credentials: login({ email, password }) });
 *     alerts.on('alert', (alert) => …);
 *     alerts.on('state', (state) => …);
 */
import { createClock } from './clock.ts';
import type { Environment, HttpInit, HttpResponse, Socket, SocketEvents, Subtle } from './environment.ts';
import type { ConnectOptions } from './options.ts';
import { type Alerts, createViewer } from './viewer.ts';

export type { ViewerAlert } from './alert-shape.ts';
export {
  accessToken,
  anybody,
  cookieSession,
  type Credentials,
  CredentialsError,
  login,
  type SecretNeed,
  tickets,
} from './credentials.ts';
export type { AlertDetail, AlertEvents, ErrorDetail, Gap, StateDetail, Transition, ViolationDetail } from './events.ts';
export type { Trust } from './keys.ts';
export type { Phase } from './phases.ts';
export type { ProtectionState } from './protection.ts';
export type { ResumePoint, ResumeStore } from './resume-point.ts';
export type { AlertJwk } from './signature.ts';
export type { ConnectOptions } from './options.ts';
export type { AlertCounts } from './teller.ts';
export type { Alerts } from './viewer.ts';

/** What we use of a browser's socket. */
interface BrowserSocket {
  readonly readyState: number;
  send(text: string): void;
  close(code: number): void;
  addEventListener(name: 'message', listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(name: 'close', listener: (event: { readonly code: number }) => void): void;
}

/** What wakes a page, and where it is heard. */
interface Listening {
  addEventListener(name: string, listener: () => void): void;
  removeEventListener(name: string, listener: () => void): void;
}

/** The globals that we use. */
interface BrowserGlobals extends Listening {
  readonly WebSocket: new (url: string, protocols: readonly string[]) => BrowserSocket;
  fetch(url: string, init: HttpInit): Promise<HttpResponse>;
  readonly crypto?: { readonly subtle?: Subtle };
  readonly document?: Listening;
}

const OPEN = 1;
const NORMAL = 1000;

/** The page that this runs in, as an environment. */
export function browserEnvironment(page: BrowserGlobals): Environment {
  return {
    now: Date.now,
    monotonic: createClock(Date.now, () => performance.now()),
    random: Math.random,
    after(ms, work) {
      const timer = setTimeout(work, ms);
      return () => clearTimeout(timer);
    },
    fetch: (url, init) => page.fetch(url, init),
    subtle: page.crypto?.subtle ?? null,
    openSocket: (url, bearer, events) => openSocket(page, url, bearer, events),
    onWake(listener) {
      const places = [
        [page, 'online'],
        [page, 'offline'],
        [page, 'pageshow'],
        [page.document, 'visibilitychange'],
        [page.document, 'resume'],
      ] as const;
      for (const [place, name] of places) place?.addEventListener(name, listener);
      return () => {
        for (const [place, name] of places) place?.removeEventListener(name, listener);
      };
    },
  };
}

function openSocket(page: BrowserGlobals, url: string, bearer: string | null, events: SocketEvents): Socket {
  const socket = new page.WebSocket(url, ['tocsin.v1', ...(bearer === null ? [] : [`bearer.${bearer}`])]);
  socket.addEventListener('message', ({ data }) => events.message(typeof data === 'string' ? data : null));
  socket.addEventListener('close', ({ code }) => events.closed({ code, status: null, retryAfterMs: null }));
  return {
    send(text) {
      if (socket.readyState === OPEN) socket.send(text);
    },
    close: () => socket.close(NORMAL),
  };
}

/** Starts watching; see {@link ConnectOptions}. Throws a TypeError when `url` is no URL. */
export function connectAlerts(options: ConnectOptions): Alerts {
  return createViewer(browserEnvironment(globalThis as unknown as BrowserGlobals), options);
}
