/**
 * Hosts to dashboards over mosquitto: Tocsin beside a plain bridge (mqtt.js and `ws`, no checks, nothing stored), in one run
 * and in turns, for the machine's speed changes by the minute. Broker, publisher, server, its PostgreSQL and the dashboards
 * share the cores. Then 10,000 hosts at a frame a second, and where an instant of a frame's way goes.
 *
 * mosquitto listens on 1883, the one port on which the link speaks without TLS; nothing else may be there.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { histogramOf } from '@tocsin/device/simulate/histogram';
import { type MosquittoServer, startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { freePort } from '@tocsin/testkit/server-process';
import { type BenchServer, cpuOf, cpuSeconds, startBenchServer } from './bench-server.ts';
import type { PlainAsk } from './bridge-plain.ts';
import type { Published, PublisherAsk } from './bridge-publisher.ts';
import { costOfStages } from './bridge-stages.ts';
import type { Seen, ViewerAsk } from './bridge-viewer.ts';
import { monotonicMs } from './frame-reader.ts';
import { type Helper, startHelper } from './helper.ts';
import { type BenchResult, median, type ResultRow } from './table.ts';

const PORT = 1883;
const HOSTS = 10_000;
const ROUNDS = 3;
const FLOOD = { frames: 40_000, window: 2000 } as const;
const PACE = { perSecond: 2000, seconds: 10 } as const;
const FULL = { perSecond: HOSTS, seconds: 30 } as const;
/** A warming up in which every host sends its first frame, which makes a row of it. */
const WARM = { perSecond: 2000, seconds: HOSTS / 2000 } as const;
const QUIET_MS = 15_000;
const STORED_MOST_MS = 120_000;
const CONNECTIONS = 8;
const TOKEN = 'bench-token';

/** One of the two, with its dashboard. */
interface Entry {
  readonly name: string;
  readonly prefix: string;
  readonly pid: number;
  readonly viewer: Helper<ViewerAsk>;
  /** Frames a second at the dashboard, by round. */
  readonly perSecond: number[];
  /** Processor seconds of the process itself for all frames of the floods. */
  cpu: number;
  frames: number;
}

/** Everything that runs. */
interface Stage {
  readonly server: BenchServer;
  readonly publisher: Helper<PublisherAsk>;
  readonly broker: MosquittoServer;
  /** Readings that were published for Tocsin so far. */
  published: number;
}

/** What a pass came to. */
interface Pass {
  readonly sent: Published;
  readonly seen: Seen;
  readonly seconds: number;
}

/** Runs the benchmark. */
export async function benchBridge(): Promise<BenchResult> {
  const inFlight = ['allow_anonymous true', 'max_inflight_messages 1000', 'max_queued_messages 0'];
  const broker = await startMosquitto(() => inFlight, { port: PORT });
  const publisher = startHelper<PublisherAsk>('bridge-publisher.js');
  const plain = startHelper<PlainAsk>('bridge-plain.js');
  const wsPort = await freePort();
  const server = await startBenchServer({
    MQTT_BROKER: '127.0.0.1',
    MQTT_PORT: String(PORT),
    MAX_DEVICES: String(2 * HOSTS),
    WS_PORT: String(wsPort),
    WS_AUTH_TOKEN: TOKEN,
  });
  const stage: Stage = { server, publisher, broker, published: 0 };
  const entries: Entry[] = [];
  try {
    await publisher.ask({ kind: 'connect', port: PORT, connections: CONNECTIONS, hosts: HOSTS });
    const url = `ws://127.0.0.1:${wsPort}/?token=${TOKEN}`;
    const ours = await admit('Tocsin', 'devices', server.server.child.pid ?? 0, url);
    const plainPort = await plain.ask<number>({ brokerPort: PORT, topic: 'plain/+/metrics' });
    const theirs = await admit('plain bridge', 'plain', plain.pid, `ws://127.0.0.1:${plainPort}/`);
    entries.push(ours, theirs);
    await paced(stage, ours, WARM);
    await stored(stage);
    const rows: ResultRow[] = [];
    const notes: string[] = [];
    await flooded(stage, entries, rows, notes);
    await late(stage, entries, rows);
    await full(stage, ours, rows, notes);
    rows.push(...(await costOfStages()));
    return { name: 'bridge', rows, notes };
  } finally {
    for (const { viewer } of entries) await viewer.stop();
    await publisher.stop();
    await plain.stop();
    await server.stop();
    await broker.stop();
  }
}

async function admit(name: string, prefix: string, pid: number, url: string): Promise<Entry> {
  const viewer = startHelper<ViewerAsk>('bridge-viewer.js');
  await viewer.ask({ kind: 'connect', url, viewers: 1 });
  return { name, prefix, pid, viewer, perSecond: [], cpu: 0, frames: 0 };
}

/** Publishes, and waits until the dashboard has it all. */
async function pass(stage: Stage, entry: Entry, ask: PublisherAsk, frames: number): Promise<Pass> {
  await entry.viewer.ask({ kind: 'begin' });
  const began = monotonicMs();
  const counting = entry.viewer.ask<Seen>({ kind: 'count', frames, quietMs: QUIET_MS });
  const sent = await stage.publisher.ask<Published>(ask);
  const seen = await counting;
  if (entry.prefix === 'devices') stage.published += frames;
  return { sent, seen, seconds: (seen.lastAt - began) / 1000 };
}

function paced(stage: Stage, entry: Entry, rate: { perSecond: number; seconds: number }): Promise<Pass> {
  const { prefix } = entry;
  return pass(stage, entry, { kind: 'pace', prefix, ...rate }, rate.perSecond * rate.seconds);
}

/** Waits until the store has everything that was published; answers when that was, ms of the monotonic clock. */
async function stored({ server: { server, token }, published }: Stage): Promise<number> {
  const until = monotonicMs() + STORED_MOST_MS;
  for (;;) {
    const answer = await fetch(`${server.base}/statistics`, { headers: { authorization: `Bearer ${token}` } });
    const { count } = (await answer.json()) as { readonly count: number };
    const now = monotonicMs();
    if (count >= published) return now;
    if (now > until) throw new Error(`the store has ${count} of ${published} readings`);
    await pause(50);
  }
}

/** As fast as PUBACKs come, in turns. */
async function flooded(stage: Stage, entries: readonly Entry[], rows: ResultRow[], notes: string[]): Promise<void> {
  const perSecondStored: number[] = [];
  let missing = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const entry of entries) {
      const before = (await cpuOf(entry.pid)).own;
      const began = monotonicMs();
      const { seen, seconds } = await pass(
        stage,
        entry,
        { kind: 'flood', prefix: entry.prefix, ...FLOOD },
        FLOOD.frames,
      );
      entry.perSecond.push(seen.frames / seconds);
      entry.cpu += (await cpuOf(entry.pid)).own - before;
      entry.frames += seen.frames;
      missing += FLOOD.frames - seen.frames;
      if (entry.prefix !== 'devices') continue;
      perSecondStored.push(FLOOD.frames / (((await stored(stage)) - began) / 1000));
    }
  }
  const [ours, theirs] = entries;
  if (ours === undefined || theirs === undefined) throw new Error('two are compared');
  const [mine, plain] = [median(ours.perSecond), median(theirs.perSecond)];
  rows.push(
    row('mosquitto to a dashboard, flood', mine, 'frames/s', plain, 'plain bridge, nothing checked or stored'),
    row('mosquitto to the store, flood', median(perSecondStored), 'frames/s', null, ''),
    row('processor time of the bridge for a frame', micros(ours), 'µs', micros(theirs), 'plain bridge'),
  );
  notes.push(
    `floods: ${FLOOD.frames} frames of ${HOSTS} hosts, ${FLOOD.window} on their way, ${ROUNDS} rounds in turns; frames/s ` +
      entries.map(({ name, perSecond }) => `${name} ${perSecond.map((n) => Math.round(n)).join(', ')}`).join('; '),
    `frames that a dashboard did not get: ${missing}`,
  );
}

const micros = ({ cpu, frames }: Entry): number => (cpu / Math.max(1, frames)) * 1e6;

/** How late frames are at half of what floods allow or less. */
async function late(stage: Stage, entries: readonly Entry[], rows: ResultRow[]): Promise<void> {
  const quantiles: { readonly p50: number; readonly p99: number }[] = [];
  for (const entry of entries) {
    const { seen } = await paced(stage, entry, PACE);
    const latency = histogramOf(seen.latency);
    quantiles.push({ p50: latency.quantile(0.5), p99: latency.quantile(0.99) });
  }
  const [mine, plain] = quantiles;
  if (mine === undefined || plain === undefined) throw new Error('two are compared');
  const at = `at ${PACE.perSecond} frames/s`;
  rows.push(
    row(`host to dashboard ${at}, p50`, mine.p50, 'ms', plain.p50, 'plain bridge'),
    row(`host to dashboard ${at}, p99`, mine.p99, 'ms', plain.p99, 'plain bridge'),
  );
}

/** 10,000 hosts at a frame a second: whether two cores can, and what each part takes of them. */
async function full(stage: Stage, ours: Entry, rows: ResultRow[], notes: string[]): Promise<void> {
  const { server, broker } = stage;
  await stored(stage);
  const pid = server.server.child.pid ?? 0;
  const [before, brokerBefore] = [await cpuOf(pid), await cpuSeconds(broker.pid)];
  const began = monotonicMs();
  const { sent, seen, seconds } = await paced(stage, ours, FULL);
  const [after, brokerAfter] = [await cpuOf(pid), await cpuSeconds(broker.pid)];
  const storedAfter = ((await stored(stage)) - began) / 1000;
  const latency = histogramOf(seen.latency);
  const frames = FULL.perSecond * FULL.seconds;
  rows.push(
    row(`${HOSTS} hosts at a frame a second: shown`, seen.frames / seconds, 'frames/s', FULL.perSecond, 'asked for'),
    row(`${HOSTS} hosts: stored`, frames / storedAfter, 'frames/s', FULL.perSecond, 'asked for'),
    row(`${HOSTS} hosts: host to dashboard, p50`, latency.quantile(0.5), 'ms', null, ''),
    row(`${HOSTS} hosts: host to dashboard, p99`, latency.quantile(0.99), 'ms', null, ''),
  );
  const core = (used: number): string => (used / seconds).toFixed(2);
  notes.push(
    `${FULL.seconds} s of ${HOSTS} hosts: ${seen.frames} of ${frames} shown, all stored ${storedAfter.toFixed(1)} s after the begin; cores: ` +
      `server ${core(after.own - before.own)}, PostgreSQL ${core(after.children - before.children)}, mosquitto ` +
      `${core(brokerAfter - brokerBefore)}, hosts ${core(sent.cpu)}, dashboard ${core(seen.cpu)}; a frame left its host at most ` +
      `${Math.round(sent.worstDelayMs)} ms late`,
  );
}

function row(what: string, ours: number, unit: string, limit: number | null, limitIs: string): ResultRow {
  return { what, ours, unit, limit, limitIs, aim: '' };
}
