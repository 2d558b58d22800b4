/** `@tocsin/client/node`: the viewer SDK for Node 20 and later. As in browsers, over the library `ws`. */
import { WebSocket } from 'ws';
import { createClock } from './clock.ts';
import type { Environment, Socket, SocketEvents, Subtle } from './environment.ts';
import { retryAfterMs } from './http.ts';
import { MESSAGE_CHARACTERS } from './server-message.ts';
import type { ConnectOptions } from './options.ts';
import { type Alerts, createViewer } from './viewer.ts';

export type {
  AlertCounts,
  AlertDetail,
  AlertEvents,
  AlertJwk,
  Alerts,
  ConnectOptions,
  ErrorDetail,
  Gap,
  Phase,
  ProtectionState,
  ResumePoint,
  ResumeStore,
  StateDetail,
  Transition,
  Trust,
  ViewerAlert,
  ViolationDetail,
} from './browser.ts';
export {
  accessToken,
  anybody,
  type Credentials,
  CredentialsError,
  login,
  type SecretNeed,
  tickets,
} from './credentials.ts';

const NORMAL = 1000;
/** UTF-8 takes up to three bytes for a UTF-16 unit. */
const MESSAGE_BYTES = 3 * MESSAGE_CHARACTERS;
const HANDSHAKE_MS = 15_000;
/** The wait for the other side's close frame before the socket is cut, in ms. */
const CLOSE_MS = 2000;

/** Node, as an environment. */
export function nodeEnvironment(): Environment {
  return {
    now: () => Date.now(),
    monotonic: createClock(Date.now, () => performance.now()),
    random: () => Math.random(),
    after(ms, work) {
      const timer = setTimeout(work, ms);
      return () => clearTimeout(timer);
    },
    fetch: (url, init) => fetch(url, init),
    subtle: crypto.subtle as unknown as Subtle,
    openSocket,
    // Nothing tells of a network here, and a machine that slept shows by its clock.
    onWake: () => () => undefined,
  };
}

function openSocket(url: string, bearer: string | null, events: SocketEvents): Socket {
  const socket = new WebSocket(url, ['tocsin.v1'], {
    headers: bearer === null ? {} : { authorization: `Bearer ${bearer}` },
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES,
    handshakeTimeout: HANDSHAKE_MS,
    followRedirects: false,
  });
  let status: number | null = null;
  let wait: number | null = null;
  socket.on('unexpected-response', (request, response) => {
    status = response.statusCode ?? null;
    wait = retryAfterMs(response.headers['retry-after']);
    // The event 'close' follows.
    request.destroy();
    socket.terminate();
  });
  socket.on('error', () => undefined);
  socket.on('message', (data: Buffer, isBinary) => events.message(isBinary ? null : data.toString()));
  socket.on('close', (code) => events.closed({ code, status, retryAfterMs: wait }));
  return {
    send(text) {
      if (socket.readyState === WebSocket.OPEN) socket.send(text);
    },
    close() {
      socket.close(NORMAL);
      setTimeout(() => socket.terminate(), CLOSE_MS).unref();
    },
  };
}

/** Starts watching; see {@link ConnectOptions}. Throws a TypeError when `url` is no URL. */
export function connectAlerts(options: ConnectOptions): Alerts {
  return createViewer(nodeEnvironment(), options);
}
