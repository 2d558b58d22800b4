/**
 * The program as a value: started, addressed, drained, stopped; three of them may live in one process.
 *
 * Start: ground (store, bus, identity, registry) -> pipeline -> worker -> listener -> MQTT; `ready` says 200 once the backlog
 * is worked off. End: `drain` takes no new work and lets viewers and devices go, `stop` ends the parts in the opposite order.
 */
import { once as onceEvent } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { createEnds, type Ends } from '../lib/ends.ts';
import { createHealth, type Health } from '../ops/health.ts';
import type { Logger } from '../ops/logging.ts';
import { continueTrace } from '../ops/tracing.ts';
import { watchClientCertificates } from '../transports/http/client-certificate.ts';
import { createHttpServer } from '../transports/http/server.ts';
import { DEVICES_PATH, ALERTS_PATH, RAW_PATH } from '../transports/websocket/request.ts';
import { createWebSocketListener } from '../transports/websocket/listener.ts';
import { createAnnounce, ensureClusterSecret } from './first-start.ts';
import { type Ground, openGround } from './ground.ts';
import { startMaintenance } from './maintenance.ts';
import { startNotifications } from './notifications.ts';
import { createPipeline, type Pipeline } from './pipeline.ts';
import { registerRoutes } from './routes.ts';
import type { Settings } from './settings.ts';
import { nameTakenPort } from './taken-port.ts';
import type { CredentialBook } from './temporary-access.ts';
import { startBridge } from './bridge.ts';
import { type ListenerCertificates, openCertificates } from './certificates.ts';
import type { CertificateWatch } from './certificate-watch.ts';
import { createViewers, type Viewers } from './viewers.ts';

/** A running server. */
export interface App {
  /** `http://127.0.0.1:8080`, with the port that it really got. */
  readonly address: string;
  /** `ws://127.0.0.1:9000`, of the listener that `WS_PORT` asks for; null without one. */
  readonly webSocketAddress: string | null;
  /** `mqtt://127.0.0.1:1883` or `mqtts://…`, where the embedded broker listens; null: there is none. */
  readonly mqttAddress: string | null;
  /** Resolves once the backlog is worked off and viewers may come. */
  readonly ready: Promise<void>;
  /** What the operator should know about the store, if anything. */
  readonly note: string | undefined;
  /** Makes and ends credentials, for what runs beside the server in its name. */
  readonly credentials: CredentialBook;
  /** Looks at the certificate files now; absent without TLS. */
  readonly reloadCertificates?: () => Promise<unknown>;
  /** Takes no new work; resolves when viewers are gone and what was begun has ended, at the latest after DRAIN_SECONDS. */
  drain(): Promise<void>;
  /** Drains if that has not happened, and ends everything. */
  stop(): Promise<void>;
}

/** What {@link startApp} needs beside the settings. */
export interface AppOptions {
  readonly log: Logger;
  /** Writes to the terminal, when there is one: generated credentials are shown there, once. */
  readonly terminal?: ((text: string) => void) | undefined;
  /** The app can't go on and asks to be stopped. */
  readonly onFatal?: (reason: string) => void;
  /** Ends a start that waits for its database. */
  readonly signal?: AbortSignal;
}

/**
 * Connections that wait to be taken. Node's 511 are full when a whole network connects at once, and the rest then tries again
 * only after 1, 3, 7 s (the kernel takes the least of this and net.core.somaxconn).
 */
const CONNECTION_BACKLOG = 4096;
/** Paths of the listener of `WS_PORT`. */
const EXTRA_PATHS: ReadonlySet<string> = new Set([ALERTS_PATH, DEVICES_PATH, RAW_PATH]);
const PROBE_TIMEOUT_MS = 2000;
/** Of DRAIN_SECONDS: what viewers and requests may take together. The rest is for the ends of the parts. */
const DRAIN_SHARE = 0.7;
/** `ready` says 503 for this share of DRAIN_SECONDS (at most so many ms) before the listener closes. */
const NOTICE_SHARE = 0.05;
const NOTICE_MOST_MS = 1000;

/** Starts the server. Rejects with a CodedError that says in one line what is wrong. */
export async function startApp(settings: Settings, options: AppOptions): Promise<App> {
  const { log } = options;
  const publicUrl = settings.publicUrl ?? guessUrl(settings);
  const ground = await openGround(settings, {
    log,
    clusterSecret: await ensureClusterSecret(settings),
    publicUrl,
    signal: options.signal,
    onLost: (why) => options.onFatal?.(why),
  });
  const ending = createEnds();
  ending.add(() => ground.close());
  try {
    await firstStart(settings, ground, options);
    const pipeline = createPipeline(settings, ground);
    ending.add(() => pipeline.backlog.stop());
    const health = registerChecks(createHealth(), ground, pipeline);
    const endMaintenance = await startMaintenance(ground, pipeline, settings);
    ending.add(endMaintenance);
    await pipeline.live.board.start();
    ending.add(() => pipeline.live.board.stop());
    if (settings.roles.includes('gateway')) await startHubs(pipeline, health, ending);
    // It ends after the worker: what that raised last may still be told.
    ending.add(await startNotifications(settings, ground, pipeline, publicUrl));
    const worker = pipeline.startWorker();
    ending.add(() => worker?.stop());
    const certificates = await openCertificates(settings, ground);
    const listening = await listen(settings, ground, { pipeline, health, publicUrl, certificates });
    const { server, extra, viewers, watch } = listening;
    ending.add(() => server.close());
    ending.add(() => endExtra(extra));
    ending.add(() => watch?.stop());
    await viewers?.start();
    ending.add(() => viewers?.stop());
    const bridge = await startBridge(settings, ground, {
      take: pipeline.mqtt,
      refused: pipeline.mqttRefused,
      health,
      certificates,
    });
    ending.add(() => bridge?.stop());
    // Nothing of the start can fail any more: only now do the others give it its share.
    if (worker !== null) await ground.membership.working(true);
    const abort = new AbortController();
    const ready = (async () => {
      await worker?.caughtUp(abort.signal);
      health.enter('ready');
    })();
    // Whoever awaits it hears of a failure; nobody has to.
    ready.catch(() => undefined);
    const drain = once(async () => {
      health.enter('draining');
      abort.abort(new Error('the server ends'));
      // Partitions stay with us until the end; the others then know whose share they are.
      void ground.membership.working(false);
      const allowed = settings.drainSeconds * 1000;
      const until = performance.now() + allowed * DRAIN_SHARE;
      const left = (): number => Math.max(0, until - performance.now());
      // The listener stays a moment longer than the viewers, so that whoever asks `ready` is told.
      await Promise.all([
        viewers?.drain(left()),
        bridge?.drain(left()),
        pause(Math.min(NOTICE_MOST_MS, allowed * NOTICE_SHARE)),
      ]);
      await Promise.all([closeServer(server, left()), endExtra(extra)]);
    });
    const stop = once(async () => {
      try {
        await drain();
      } finally {
        await giveUpStore(ground);
        await ending.endAll();
      }
    });
    return {
      address: addressOf(server.server, settings),
      mqttAddress: bridge?.address ?? null,
      webSocketAddress: extra === null ? null : addressOf(extra, settings).replace('http', 'ws'),
      ready,
      note: ground.store.note,
      credentials: ground.identity,
      ...(watch === null ? {} : { reloadCertificates: () => watch.check() }),
      drain,
      stop,
    };
  } catch (error) {
    await ending.endAll().catch(() => undefined);
    throw error;
  }
}

/** What viewers of this process are served from. */
async function startHubs({ deliveries, hub, live }: Pipeline, health: Health, ending: Ends): Promise<void> {
  health.register({ name: 'channel', required: true, timeoutMs: PROBE_TIMEOUT_MS, check: () => hub.ready() });
  ending.add(deliveries.start());
  await hub.start();
  ending.add(() => hub.stop());
  live.hub.start();
  ending.add(() => live.hub.stop());
}

/**
 * A store that does not answer gets no new statements: each part would wait for it in turn, longer than DRAIN_SECONDS. What
 * was to be given back to it runs out by itself.
 */
async function giveUpStore({ store: { db, front, upkeep } }: Ground): Promise<void> {
  if (await db.answers(PROBE_TIMEOUT_MS)) return;
  for (const pool of [db, front, upkeep]) pool.close().catch(() => undefined);
}

/** First operator and first API key; a given one is added, a generated one is shown once. */
function firstStart(settings: Settings, { identity, log }: Ground, { terminal }: AppOptions): Promise<void> {
  const given = {
    adminEmail: settings.adminEmail ?? undefined,
    adminPassword: settings.adminPassword ?? undefined,
    apiKey: settings.apiKey ?? undefined,
  };
  return identity.ensureFirst(given, createAnnounce({ dataDir: settings.dataDir, terminal, log }));
}

function guessUrl(settings: Settings): string {
  const scheme = settings.tlsCertFile === null ? 'http' : 'https';
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  return `${scheme}://${host}:${settings.port}`;
}

function addressOf(server: Server, settings: Settings): string {
  const { port } = server.address() as AddressInfo;
  return guessUrl({ ...settings, port });
}

function registerChecks(health: Health, ground: Ground, pipeline: Pipeline): Health {
  const { store, bus, metrics } = ground;
  health.register({
    name: 'store',
    required: true,
    timeoutMs: PROBE_TIMEOUT_MS,
    check: () => store.db.answers(PROBE_TIMEOUT_MS),
  });
  health.register({ name: 'log', required: true, timeoutMs: PROBE_TIMEOUT_MS, check: ground.logAnswers });
  health.register({ name: 'bus', required: false, timeoutMs: PROBE_TIMEOUT_MS, check: () => bus.healthy() });
  metrics.beforeText(() => {
    metrics.draining.set({}, health.state().kind === 'draining' ? 1 : 0);
    for (const { partition, head, position } of pipeline.backlog.partitions()) {
      metrics.logBacklog.set({ partition: String(partition) }, head - position);
    }
  });
  return health;
}

/** What listens. */
interface Listening {
  readonly server: FastifyInstance;
  /** That of `WS_PORT`. */
  readonly extra: Server | null;
  readonly viewers: Viewers | null;
  readonly watch: CertificateWatch | null;
}

interface ListenerParts {
  readonly pipeline: Pipeline;
  readonly health: Health;
  readonly publicUrl: string;
  readonly certificates: ListenerCertificates | null;
}

async function listen(
  settings: Settings,
  ground: Ground,
  { pipeline, health, publicUrl, certificates }: ListenerParts,
): Promise<Listening> {
  const gateway = settings.roles.includes('gateway');
  const habits = {
    now: () => ground.clock.now(),
    https: certificates !== null || publicUrl.startsWith('https:'),
    origins: foreignOrigins(settings.wsAllowedOrigins ?? [], publicUrl),
  };
  const server = await createHttpServer({
    ...habits,
    log: ground.log,
    authenticators: ground.identity.authenticators,
    trace: (header) => continueTrace(header),
    answered: (method, route, status, seconds) =>
      ground.metrics.http.observe({ method, route, status: String(status) }, seconds),
    trustedProxies: settings.trustedProxies,
    draining: () => health.state().kind === 'draining',
    ...(certificates === null ? {} : { tls: certificates.tls }),
  });
  await registerRoutes(server, ground, { pipeline, health, publicUrl, gateway });
  const main = server.server;
  const extra =
    gateway && settings.wsPort !== null ? createWebSocketListener(EXTRA_PATHS, certificates?.tls, habits) : null;
  const all = extra === null ? [main] : [main, extra];
  const clients = watchClientCertificates(...all);
  const viewers = gateway ? createViewers({ main, extra }, settings, ground, pipeline, { publicUrl, clients }) : null;
  const { host, port } = settings;
  await server.listen({ host, port, backlog: CONNECTION_BACKLOG }).catch(nameTakenPort('PORT', host, port));
  try {
    if (extra !== null) await listenExtra(extra, settings);
  } catch (error) {
    await server.close();
    throw error;
  }
  return { server, extra, viewers, watch: certificates?.keepFresh(all, clients.caChanged) ?? null };
}

async function listenExtra(server: Server, { host, wsPort }: Settings): Promise<void> {
  server.listen({ host, port: wsPort ?? 0, backlog: CONNECTION_BACKLOG });
  // Rejects with the error of a listener that cannot be had.
  await onceEvent(server, 'listening').catch(nameTakenPort('WS_PORT', host, wsPort ?? 0));
}

/** Ends the listener of `WS_PORT`; what is still open there has no answer to wait for. */
async function endExtra(server: Server | null): Promise<void> {
  if (server === null || !server.listening) return;
  const closed = onceEvent(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

/** Those of `allowed` (origins, or URLs of which the origin counts) that are not our own. */
function foreignOrigins(allowed: readonly string[], publicUrl: string): ReadonlySet<string> {
  const own = new URL(publicUrl).origin;
  return new Set(allowed.map((url) => new URL(url).origin).filter((origin) => origin !== own));
}

/** Ends the listener: what was begun gets its answer, idle connections go at once, the rest after `deadlineMs`. */
async function closeServer(server: FastifyInstance, deadlineMs: number): Promise<void> {
  const timer = setTimeout(() => server.server.closeAllConnections(), deadlineMs);
  await server.close();
  clearTimeout(timer);
}

function once(work: () => Promise<void>): () => Promise<void> {
  let run: Promise<void> | undefined;
  return () => {
    run ??= work();
    return run;
  };
}
