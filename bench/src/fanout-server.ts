/**
 * A server that tells everybody the same, in a process of its own: bare sockets, `ws`, Socket.IO, or Tocsin's own hub and
 * WebSocket transport without store and HTTP API. Told what to send by its parent.
 */
import { createHash } from 'node:crypto';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createAdapter } from '@socket.io/redis-adapter';
import { createMemoryBus } from '@tocsin/server/bus/memory/bus';
import { createMemoryLimiter } from '@tocsin/server/bus/memory/limiter';
import { systemClock } from '@tocsin/server/lib/clock';
import { createChannelPublisher } from '@tocsin/server/realtime/channel';
import { textFrame } from '@tocsin/server/realtime/frame';
import { createHub } from '@tocsin/server/realtime/hub';
import type { ChannelMessage } from '@tocsin/server/store/ports/channels';
import { attachWebSocket } from '@tocsin/server/transports/websocket/attach';
import { Redis } from 'ioredis';
import { Server as SocketIo } from 'socket.io';
import { type WebSocket, WebSocketServer } from 'ws';
import { serveParent } from './helper.ts';

/** What it can be. */
export type FanoutKind = 'raw' | 'raw-joined' | 'ws' | 'hub' | 'socket.io' | 'socket.io-redis';

/** What it can be asked. */
export type FanoutAsk =
  /** Answers the port. */
  | { readonly kind: 'start'; readonly what: FanoutKind; readonly redisUrl: string | null }
  | { readonly kind: 'publish'; readonly offset: number; readonly alert: string }
  /** Collects garbage. */
  | { readonly kind: 'collect' };

/** Tells everybody. */
type Publish = (offset: number, alert: string) => void;

interface Started {
  readonly server: Server | HttpServer;
  readonly publish: Publish;
}

/** Beyond any run, so that no heartbeat falls into a measurement. */
const NEVER_MS = 600_000;
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

function messageText(offset: number, alert: string): string {
  return `{"type":"alert","offset":${offset},"data":${alert}}`;
}

/** Bare sockets: the handshake by hand, then one frame, built once, written to each. */
function startRaw(joined: boolean): Started {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    socket.once('data', (head) => {
      const key = /sec-websocket-key: (\S+)/i.exec(head.toString('latin1'))?.[1] ?? '';
      const accept = createHash('sha1')
        .update(key + GUID)
        .digest('base64');
      const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
      socket.write([...lines, `Sec-WebSocket-Accept: ${accept}`, '\r\n'].join('\r\n'));
      sockets.add(socket);
      socket.resume();
    });
  });
  const writeAll = (bytes: Buffer): void => {
    for (const socket of sockets) socket.write(bytes);
  };
  let waiting: Buffer[] = [];
  const flush = (): void => {
    const bytes = Buffer.concat(waiting);
    waiting = [];
    writeAll(bytes);
  };
  const publish: Publish = (offset, alert) => {
    const frame = textFrame(messageText(offset, alert));
    if (!joined) return writeAll(frame);
    if (waiting.length === 0) setImmediate(flush);
    waiting.push(frame);
  };
  return { server, publish };
}

function startWs(): Started {
  const server = createHttpServer();
  const wss = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
  const all = new Set<WebSocket>();
  wss.on('connection', (ws) => {
    all.add(ws);
    ws.on('close', () => all.delete(ws));
    ws.on('error', () => undefined);
  });
  const publish: Publish = (offset, alert) => {
    const bytes = Buffer.from(messageText(offset, alert));
    for (const ws of all) ws.send(bytes, { binary: false });
  };
  return { server, publish };
}

async function startSocketIo(redisUrl: string | null): Promise<Started> {
  const server = createHttpServer();
  const io = new SocketIo(server, { transports: ['websocket'], serveClient: false, pingInterval: NEVER_MS });
  if (redisUrl !== null) {
    const [publisher, subscriber] = [new Redis(redisUrl), new Redis(redisUrl)];
    await Promise.all([publisher.ping(), subscriber.ping()]);
    io.adapter(createAdapter(publisher, subscriber));
  }
  const publish: Publish = (offset, alert) => {
    io.emit('alert', { type: 'alert', offset, data: JSON.parse(alert) as object });
  };
  return { server, publish };
}

/** The product's hub and transport over a bus in memory; a list takes the place of the store. */
async function startHub(): Promise<Started> {
  const server = createHttpServer();
  const bus = createMemoryBus({ clock: systemClock });
  const messages: ChannelMessage[] = [];
  const store = {
    head: async (channel: string) => ({ channel, epoch: 'bench', head: messages.length }),
    read: async (_channel: string, after: number, limit: number) => messages.slice(after, after + limit),
  };
  const hub = createHub({ channel: 'alerts', store, pubsub: bus.pubsub, clock: systemClock, watermarkSeconds: 10 });
  const refuse = (): never => {
    throw new Error('nobody signs in here');
  };
  const channels = new Map([['/ws/alerts', { hub, access: 'anyone', filters: true, raw: false } as const]]);
  const viewers = attachWebSocket([{ server, channels }], {
    settings: {
      publicUrl: 'http://127.0.0.1',
      allowedOrigins: [],
      allowQueryToken: false,
      trustedProxies: [],
      maxConnectionsPerUser: 1,
      maxConnectionsPerAddress: 50_000,
      reconnectsPerMinute: 10_000,
      maxMessageBytes: 10_240,
      messagesPer10Seconds: 5,
      heartbeatSeconds: 30,
      reauthenticateSeconds: 900,
    },
    clock: systemClock,
    bus,
    door: createMemoryLimiter(systemClock),
    verifyAccessToken: refuse,
    redeemTicket: refuse,
    sessions: { dead: async () => [], onEnded: () => () => undefined },
    log: {
      info: () => undefined,
      error: (fields, message) =>
        void process.stderr.write(`${message}: ${'err' in fields ? String(fields.err) : ''}\n`),
    },
  });
  await hub.start();
  await viewers.start();
  const publisher = createChannelPublisher({ pubsub: bus.pubsub });
  const publish: Publish = (offset, body) => {
    const createdAt = Date.now();
    const message = { channel: 'alerts', offset, type: 'alert', zoneId: null, severity: 3, createdAt, body };
    messages.push(message);
    void publisher.publish([message]);
  };
  return { server, publish };
}

async function start(what: FanoutKind, redisUrl: string | null): Promise<Started> {
  if (what === 'ws') return startWs();
  if (what === 'hub') return startHub();
  if (what === 'raw' || what === 'raw-joined') return startRaw(what === 'raw-joined');
  return startSocketIo(what === 'socket.io-redis' ? redisUrl : null);
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
let publish: Publish = () => undefined;

serveParent<FanoutAsk>(async (ask) => {
  if (ask.kind === 'publish') return publish(ask.offset, ask.alert);
  if (ask.kind === 'collect') return collect();
  const started = await start(ask.what, ask.redisUrl);
  publish = started.publish;
  return new Promise<number>((resolve) => {
    started.server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
      resolve((started.server.address() as AddressInfo).port),
    );
  });
});
