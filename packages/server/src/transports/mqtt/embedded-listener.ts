/**
 * The listener below the embedded broker, plain or TLS: sockets, counted from their first byte on. Certificates can be replaced
 * while it listens.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createSecureServer, type Server as TlsServer } from 'node:tls';
import { LIMITS } from '@tocsin/protocol/limits';
import { secureContext, type TlsOptions } from '../http/server-socket.ts';

/** Connections that wait to be taken: a whole network may come at once. */
const BACKLOG = 4096;

/** What the listener tells. */
export interface ListenerHome {
  /** A peer is there; false: it is closed at once. */
  arrived(raw: Socket): boolean;
  /** It can be spoken to. `raw` is the socket that arrived, or lies below. */
  ready(socket: Socket, peer: string): void;
  /** Its TLS handshake failed. */
  failed(): void;
  error(error: unknown): void;
}

/** The listener. */
export interface Listener {
  /** Resolves with the port; rejects as `listen` does. */
  listen(host: string, port: number): Promise<number>;
  /** Takes nobody any more. */
  close(): void;
  /** Throws where OpenSSL refuses them; then nothing has changed. */
  replaceCertificates(tls: TlsOptions): void;
}

/** The name of a socket among those that are open. */
export function peerName({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${remoteAddress ?? ''}|${remotePort ?? 0}`;
}

/** Creates it. */
export function createListener(tls: TlsOptions | undefined, home: ListenerHome): Listener {
  // The client may close its direction while messages of it are on their way.
  const habits = { allowHalfOpen: true, noDelay: true };
  const secure: TlsServer | null =
    tls === undefined
      ? null
      : createSecureServer({ ...habits, ...secureContext(tls), handshakeTimeout: LIMITS.mqttConnectMs.value });
  const server: Server = secure ?? createServer(habits);
  server.on('connection', (raw) => {
    // Until somebody listens.
    raw.on('error', () => undefined);
    if (!home.arrived(raw)) raw.destroy();
    else if (secure === null) home.ready(raw, peerName(raw));
  });
  secure?.on('secureConnection', (socket) => home.ready(socket, peerName(socket)));
  secure?.on('tlsClientError', (_error, socket) => {
    home.failed();
    // Node leaves it open after some of them, a handshake that takes too long for one.
    socket.destroy();
  });
  return {
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen({ host, port, backlog: BACKLOG }, () => {
          server.off('error', reject);
          server.on('error', (error) => home.error(error));
          const address = server.address();
          resolve(typeof address === 'object' && address !== null ? address.port : port);
        });
      }),
    close: () => void server.close(),
    replaceCertificates: (next) => secure?.setSecureContext(secureContext(next)),
  };
}
