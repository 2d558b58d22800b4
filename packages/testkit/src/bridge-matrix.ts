/**
 * One round of the matrix of hosts and notifications, on real processes: a crowd of hosts reports through a broker with client
 * certificates to two whole processes, dashboards and viewers watch at both, Slack is told. A fault begins at a random moment;
 * half of the hosts become busy while it lasts, the others after it. Then everything is counted.
 */
import { randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { type BridgeFault, type BridgeParts, connectedNodes, RETRY_AFTER_SECONDS } from './bridge-faults.ts';
import { createAuthority, LOCAL_NAMES } from './certificates.ts';
import { type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { type CrowdFrame, type HostCrowd, startHostCrowd } from './host-crowd.ts';
import { type LiveWatch, watchLive } from './live-watch.ts';
import { startMosquitto, tlsLines } from './mosquitto-server.ts';
import { startPostReceiver } from './post-receiver.ts';
import { signIn } from './server-process.ts';
import { settled } from './settled.ts';
import { type RaisedAlert, type SlackCounts, slackCounts } from './slack-counts.ts';
import { connectSteadily, type SteadyViewer } from './steady-viewer.ts';

/** What came of a round. */
export interface BridgeReport extends SlackCounts {
  readonly bridge: string;
  readonly round: number;
  /** Until everything was there again, ms. */
  readonly lastedMs: number;
  /** Frames that the broker acknowledged to hosts; readings in the store; how many different ones they are. */
  readonly acknowledged: number;
  readonly stored: number;
  readonly different: number;
  /** Acknowledged frames that are not in the store as they were sent. */
  readonly lost: number;
  /** Alerts of the round in the store, and at each viewer. */
  readonly alerts: number;
  readonly seen: readonly number[];
  readonly viewerFaults: readonly string[];
  /** Hosts that the two processes show differently once all is stored. */
  readonly unequal: number;
  /** Hosts whose newest frame somebody does not show after the round: dashboards and new snapshots. */
  readonly behind: number;
  /** The longest time without a PUBACK, and of a dashboard without a frame, from the fault on, ms. */
  readonly pubackGapMs: number;
  readonly viewerGapMs: number;
  readonly dashboards: number;
}

/** Processes, broker, Slack that are ready for rounds. */
export interface BridgeBench {
  round(fault: BridgeFault, round: number, lastsMs: number): Promise<BridgeReport>;
  close(): Promise<void>;
}

const HOSTS = 24;
const SECRET = 'token-of-dashboards-0123456789';
/** A viewer gives up a connection on which nothing, not even a ping, comes for so long. */
const SILENT_MS = 3000;
/** Longest wait for anything to come; the retry of a post may be a minute away. */
const PATIENCE_MS = 100_000;
const LOOK_MS = 50;

/** Starts two whole processes, PostgreSQL, Redis, mosquitto and a Slack. `shared`: they share the messages. */
export async function openBridgeBench(shared: boolean): Promise<BridgeBench> {
  const ends: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    const authority = createAuthority();
    ends.push(() => authority.remove());
    const [own, ofHosts, ofBroker] = [
      authority.issue({ subject: '/CN=tocsin' }),
      authority.issue({ subject: '/CN=hosts' }),
      authority.issue({ names: LOCAL_NAMES }),
    ];
    const [broker, slack] = await Promise.all([
      startMosquitto(
        (folder) => [
          ...tlsLines(folder, ofBroker, authority.ca),
          'max_queued_messages 0',
          ...(shared ? [`acl_file ${hidden(folder)}`] : []),
        ],
        { persistence: true },
      ),
      startPostReceiver(),
    ]);
    ends.push(() => Promise.all([broker.stop(), slack.stop()]));
    const cluster = await startProcessCluster({
      wholes: 2,
      redis: 'single',
      own: (name) => ({ SLACK_WEBHOOK_URL: `${slack.url}/${name}` }),
      environment: {
        ...{ MQTT_BROKER: 'localhost', MQTT_PORT: String(broker.port), CA_CERT: authority.caFile },
        ...{ CLIENT_CERT: own.certFile, CLIENT_KEY: own.keyFile },
        ...{ MQTT_BACKOFF_MIN: '0.2', MQTT_BACKOFF_MAX: '1', MQTT_SHARED_SUBSCRIPTIONS: String(shared) },
        // Each host is told of once; nobody leaves the board, or counts as silent.
        ...{ ALERT_COOLDOWN: '86400', PRUNE_SECONDS: '86400', SUMMARY_INTERVAL: '86400', MAX_DEVICES: '100000' },
        ...{ WS_AUTH_TOKEN: SECRET, WS_ALLOW_QUERY_TOKEN: 'true', WS_HEARTBEAT_SECONDS: '1' },
        ...{ WS_MAX_CONNECTIONS_PER_USER: '8', WS_RECONNECTS_PER_MINUTE: '10000', LOG_LEVEL: 'warn' },
      },
    });
    ends.push(() => cluster.stop());
    await connectedNodes(cluster, shared ? 2 : 1);
    // From here on the broker knows the session after a kill.
    await broker.save();
    const db = openDatabase(cluster.postgres.url, { applicationName: 'testkit', maxConnections: 1 });
    ends.push(() => db.close());
    const client = { ca: authority.ca, cert: ofHosts.cert, key: ofHosts.key };
    const mqtt = { protocol: 'mqtts', host: '127.0.0.1', port: broker.port, ...client } as const;
    let rounds = 0;
    return {
      round: (fault, round, lastsMs) => {
        rounds += 1;
        const name = `${shared ? 's' : 'r'}${rounds}`;
        return runRound({ parts: { cluster, broker, slack }, db, mqtt, fault, round, lastsMs, name }).catch(
          (error: unknown) => {
            throw new Error(`${fault.name}, round ${round} failed; the processes said:\n${cluster.output()}`, {
              cause: error,
            });
          },
        );
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** An ACL that keeps `$SYS` back: what an old mosquitto says of itself there would end the sharing. It is never restarted. */
function hidden(folder: string): string {
  const file = join(folder, 'acl');
  writeFileSync(file, 'pattern readwrite devices/#\n', { mode: 0o644 });
  return file;
}

interface Round {
  readonly parts: BridgeParts;
  readonly db: Database;
  readonly mqtt: Parameters<typeof startHostCrowd>[0];
  readonly fault: BridgeFault;
  readonly round: number;
  readonly lastsMs: number;
  readonly name: string;
}

interface Watchers {
  readonly live: LiveWatch[];
  readonly alerts: readonly SteadyViewer[];
}

async function runRound(given: Round): Promise<BridgeReport> {
  const { parts, db, mqtt, fault, round, lastsMs, name } = given;
  const { cluster, slack } = parts;
  const { live, alerts } = await watch(cluster);
  const crowd = await startHostCrowd(mqtt, name, HOSTS);
  try {
    const [early, late] = [crowd.ids.slice(0, HOSTS / 2), crowd.ids.slice(HOSTS / 2)];
    const postsBefore = slack.posts.length;
    await pause(randomInt(200, 1200));
    const struckAt = performance.now();
    const running = await fault.begin(parts, round, lastsMs);
    const heatedAt = Date.now();
    crowd.heat(early);
    if (running.posted !== undefined) {
      await until('the alerts', () => Math.min(...alerts.map((each) => raised(each, name).length)) >= early.length);
      await slack.until(() => slack.posts.length > postsBefore);
      await running.posted();
    }
    if (fault.atOnce !== true) await pause(Math.max(0, struckAt + lastsMs - performance.now()));
    await running.end();
    const endedAt = performance.now();
    const told = (ids: readonly string[]): boolean =>
      ids.every((id) => slack.taken().some(({ body }) => tells(body, id)));
    await until('the posts of the fault', () => told(early));
    const laterAt = Date.now();
    crowd.heat(late);
    await until('the posts after it', () => told(late));
    const gaps = {
      pubackGapMs: Math.round(crowd.longestGap(struckAt)),
      viewerGapMs: Math.round(Math.max(...live.map((each) => each.longestGap(struckAt)))),
    };
    await crowd.rest();
    await stored(db, name, countOf(crowd));
    await settled(db, PATIENCE_MS);
    const fresh = await Promise.all(cluster.wholes().map(({ base }) => watchLive([devicesUrl(base)], 'devices')));
    live.push(...fresh);
    await until('one picture', () => differing(fresh, crowd.ids) === 0).catch(() => undefined);
    const unequal = differing(fresh, crowd.ids);
    await crowd.farewell();
    const frames = lastOf(crowd);
    await until('dashboards', () => live.every((each) => lacking(each, frames) === 0)).catch(() => undefined);
    const behind = Math.max(...live.map((each) => lacking(each, frames)));
    await stored(db, name, countOf(crowd));
    await settled(db, PATIENCE_MS);
    const messages = raised(alerts[0], name);
    return {
      bridge: fault.name,
      round,
      lastedMs: Math.round(endedAt - struckAt),
      ...(await compared(db, name, crowd)),
      alerts: await countAlerts(db, name),
      seen: alerts.map((each) => raised(each, name).length),
      viewerFaults: [...alerts.flatMap((each) => each.faults()), ...live.flatMap((each) => each.faults())],
      unequal,
      behind,
      ...gaps,
      dashboards: live.reduce((sum, each) => sum + each.connections(), 0),
      ...slackCounts(slack.posts.slice(postsBefore), messages, {
        early,
        heatedAt,
        laterAt,
        retryAfterMs: RETRY_AFTER_SECONDS * 1000,
      }),
    };
  } finally {
    crowd.close();
    for (const each of live) each.close();
    await Promise.all(alerts.map((each) => each.close()));
  }
}

/** Two dashboards and a viewer at each process; who loses one goes to the other. */
async function watch(cluster: ProcessCluster): Promise<Watchers> {
  const nodes = cluster.wholes();
  const token = await signIn(nodes[0]?.base ?? '');
  const devices = nodes.map(({ base }) => devicesUrl(base));
  const raw = nodes.map(({ livePort }) => `ws://127.0.0.1:${livePort}/?token=${SECRET}`);
  const channels = nodes.map(({ base }) => `${base.replace('http', 'ws')}/ws/alerts`);
  const [live, alerts] = await Promise.all([
    Promise.all(nodes.flatMap((_, i) => [watchLive(turned(devices, i), 'devices'), watchLive(turned(raw, i), 'raw')])),
    Promise.all(nodes.map((_, i) => connectSteadily(turned(channels, i) as [string], token, { silentMs: SILENT_MS }))),
  ]);
  return { live, alerts };
}

function devicesUrl(base: string): string {
  return `${base.replace('http', 'ws')}/ws/devices?token=${SECRET}`;
}

function turned<Item>(items: readonly Item[], by: number): Item[] {
  return [...items.slice(by), ...items.slice(0, by)];
}

function countOf(crowd: HostCrowd): number {
  return [...crowd.acknowledged().values()].reduce((sum, sent) => sum + sent.length, 0);
}

function lastOf(crowd: HostCrowd): ReadonlyMap<string, CrowdFrame> {
  const frames = [...crowd.acknowledged().values()].flatMap((sent) => sent.at(-1) ?? []);
  return new Map(frames.map((frame) => [frame.device_id, frame]));
}

function tells(body: string, id: string): boolean {
  return body.includes(`CPU ALERT at ${id} `);
}

/** The first messages of alerts of hosts of the round, as a viewer got them. */
function raised(viewer: SteadyViewer | undefined, name: string): RaisedAlert[] {
  const messages = viewer?.channel() ?? [];
  return messages.flatMap(({ type, offset = 0, data }) => {
    const alert = data as Omit<RaisedAlert, 'offset'>;
    return type === 'alert' && alert.deviceId?.startsWith(`${name}-`) ? [{ ...alert, offset }] : [];
  });
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !(await holds()); await pause(LOOK_MS)) {
    if (performance.now() > end) throw new Error(`${what} did not come in ${PATIENCE_MS} ms`);
  }
}

const ROWS = `
SELECT d.id, r.at, r.fields FROM readings r JOIN devices d ON d.number = r.device WHERE d.id LIKE $1`;
const COUNT = `SELECT count(*) AS n FROM readings r JOIN devices d ON d.number = r.device WHERE d.id LIKE $1`;
const ALERTS = `SELECT count(*) AS n FROM alerts WHERE kind = 'host.cpu' AND device_id LIKE $1`;

async function count(db: Database, sql: string, name: string): Promise<number> {
  const [row] = await db.query<{ n: number }>(sql, [`${name}-%`]);
  return row?.n ?? 0;
}

function countAlerts(db: Database, name: string): Promise<number> {
  return count(db, ALERTS, name);
}

async function stored(db: Database, name: string, least: number): Promise<void> {
  await until(`${least} readings`, async () => (await count(db, COUNT, name)) >= least);
}

async function compared(
  db: Database,
  name: string,
  crowd: HostCrowd,
): Promise<Pick<BridgeReport, 'acknowledged' | 'stored' | 'different' | 'lost'>> {
  const rows = await db.query<{ id: string; at: number; fields: Record<string, number> }>(ROWS, [`${name}-%`]);
  const keyOf = (id: string, at: number, cpu?: number, memory?: number): string => `${id} ${at} ${cpu} ${memory}`;
  const there = new Set(rows.map(({ id, at, fields }) => keyOf(id, at, fields['cpu_percent'], fields['mem_percent'])));
  const sent = [...crowd.acknowledged().values()].flat();
  const lost = sent.filter(
    (each) => !there.has(keyOf(each.device_id, each.timestamp * 1000, each.cpu_percent, each.mem_percent)),
  );
  return { acknowledged: sent.length, stored: rows.length, different: there.size, lost: lost.length };
}

/** Which of these hosts two dashboards show differently, or not at all. */
function differing([one, other]: readonly LiveWatch[], ids: readonly string[]): number {
  const shown = (each: LiveWatch | undefined, id: string): string | undefined =>
    JSON.stringify(each?.picture().get(id));
  return ids.filter((id) => shown(one, id) === undefined || shown(one, id) !== shown(other, id)).length;
}

/** How many of these frames are not what is shown. */
function lacking({ picture }: LiveWatch, frames: ReadonlyMap<string, CrowdFrame>): number {
  const shown = picture();
  return [...frames].filter(([id, { timestamp, cpu_percent }]) => {
    const frame = shown.get(id);
    return frame?.['timestamp'] !== timestamp || frame['cpu_percent'] !== cpu_percent;
  }).length;
}
