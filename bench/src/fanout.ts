/**
 * One message to 1,000 and to 5,000 viewers: Tocsin beside bare sockets, `ws`, Socket.IO and nchan, in one run and in turns,
 * for the machine's speed changes by the minute. The same signed alert of some 900 bytes; viewers are bare sockets in a
 * process of their own that counts, for each, what is missing or doubled.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { histogramOf } from '@tocsin/device/simulate/histogram';
import { programPath } from '@tocsin/testkit/machine';
import { type RedisServer, startRedis } from '@tocsin/testkit/redis-server';
import { cpuOf } from './bench-server.ts';
import { type Contender, startNchanContender, startSimple, startTocsin } from './contenders.ts';
import type { CrowdAsk, CrowdComplete, CrowdCount } from './crowd-process.ts';
import { monotonicMs } from './frame-reader.ts';
import { type Helper, startHelper } from './helper.ts';
import { hasNchan } from './nchan.ts';
import { type BenchResult, median, type ResultRow } from './table.ts';

/** The most first: the same connections serve both sizes. */
const SIZES = [5000, 1000] as const;
const ROUNDS = 3;
const SATURATE_MS = 1200;
/** Messages under way at once while saturating. */
const WINDOW = 4;
const PACE = { perSecond: 100, messages: { 1000: 150, 5000: 100 } } as const;
const QUIET_MS = 3000;
const AT_ONCE = 200;
const TOCSIN = 'Tocsin';
const HUB = 'Tocsin, hub alone';
const RAW = 'raw, one frame';
const JOINED = 'raw, joined';
const SOCKET_IO = 'Socket.IO 4.8';

type Size = (typeof SIZES)[number];

/** One contender with its viewers, and what was measured of it. */
interface Entry {
  readonly contender: Contender;
  readonly crowd: Helper<CrowdAsk, CrowdComplete>;
  bytesEach: number;
  readonly sizes: Record<Size, Measured>;
}

interface Measured {
  readonly perSecond: number[];
  deliveries: number;
  /** Processor seconds of the server for them. */
  cpu: number;
  /** Of the receiving process: cores while saturating. */
  readonly receiver: number[];
  readonly server: number[];
  p50: number;
  p99: number;
  /** Messages that viewers did not get or got twice; 0 is what is wanted. */
  wrong: number;
}

/** Deliveries for a second of the server's processor: what other work on the machine changes least. */
const perCore = ({ deliveries, cpu }: Measured): number => deliveries / Math.max(0.01, cpu);

const newMeasured = (): Measured => ({
  perSecond: [],
  deliveries: 0,
  cpu: 0,
  receiver: [],
  server: [],
  p50: 0,
  p99: 0,
  wrong: 0,
});

/** Runs the benchmark. */
export async function benchFanout(): Promise<BenchResult> {
  const redis = programPath('redis-server') === null ? null : await startRedis();
  const entries: Entry[] = [];
  try {
    for (const contender of await startAll(redis)) entries.push(await admit(contender));
    for (const size of SIZES) {
      for (const { crowd } of entries) await crowd.ask({ kind: 'shrink', viewers: size });
      await pause(500);
      for (let round = 0; round < ROUNDS; round += 1) for (const entry of entries) await saturate(entry, size);
      for (const entry of entries) await paced(entry, size);
    }
    return resultOf(entries, redis);
  } finally {
    for (const { contender, crowd } of entries) {
      await crowd.stop();
      await contender.stop();
    }
    await redis?.stop();
  }
}

async function startAll(redis: RedisServer | null): Promise<Contender[]> {
  return [
    await startSimple(RAW, 'raw', null),
    await startSimple(JOINED, 'raw-joined', null),
    ...(redis === null ? [] : [await startTocsin(redis.url)]),
    await startSimple(HUB, 'hub', null),
    await startSimple('ws.send(buffer)', 'ws', null),
    await startSimple(SOCKET_IO, 'socket.io', null),
    ...(redis === null ? [] : [await startSimple('Socket.IO + Redis adapter', 'socket.io-redis', redis.url)]),
    ...(hasNchan() ? [await startNchanContender()] : []),
  ];
}

/** Connects the viewers; what they cost is looked at before anything was sent. */
async function admit(contender: Contender): Promise<Entry> {
  const crowd = startHelper<CrowdAsk, CrowdComplete>('crowd-process.js');
  await crowd.ask({ kind: 'target', target: contender.target });
  // A first wave comes and goes: what the handshakes let the heap's young generation grow to is no viewer's, whoever the server.
  await crowd.ask({ kind: 'connect', viewers: SIZES[0], atOnce: AT_ONCE });
  await crowd.ask({ kind: 'shrink', viewers: 100 });
  await pause(1000);
  const before = await contender.residentKb();
  await crowd.ask({ kind: 'connect', viewers: SIZES[0] - 100, atOnce: AT_ONCE });
  const after = await contender.residentKb();
  const bytesEach = ((after - before) * 1024) / (SIZES[0] - 100);
  return { contender, crowd, bytesEach, sizes: { 1000: newMeasured(), 5000: newMeasured() } };
}

function note(measured: Measured, count: CrowdCount, wanted: number): void {
  measured.wrong += Math.abs(wanted - count.deliveries) + count.duplicates + count.missing;
}

/** A few messages always under way, for a while; the next one starts when one has reached everybody. */
async function saturate({ contender, crowd, sizes }: Entry, size: Size): Promise<void> {
  await crowd.ask({ kind: 'begin' });
  const before = await cpuOf(contender.pid);
  const began = monotonicMs();
  let sent = 0;
  await new Promise<void>((resolve, reject) => {
    const next = (): void => {
      if (monotonicMs() - began > SATURATE_MS) return resolve();
      sent += 1;
      contender.publish(monotonicMs()).catch(reject);
    };
    crowd.onEvent = next;
    for (let i = 0; i < WINDOW; i += 1) next();
  });
  crowd.onEvent = () => undefined;
  const count = await crowd.ask<CrowdCount>({ kind: 'count', messages: sent, quietMs: QUIET_MS });
  const after = await cpuOf(contender.pid);
  const seconds = (count.lastAt - began) / 1000;
  const measured = sizes[size];
  measured.perSecond.push(count.deliveries / seconds);
  measured.deliveries += count.deliveries;
  measured.cpu += after.own - before.own;
  measured.receiver.push(count.cpu / seconds);
  measured.server.push((after.own - before.own) / seconds);
  note(measured, count, sent * size);
}

/** So many a second, whether or not the one before has arrived. */
async function paced({ contender, crowd, sizes }: Entry, size: Size): Promise<void> {
  await crowd.ask({ kind: 'begin' });
  const messages = PACE.messages[size];
  const began = monotonicMs() + 20;
  const taken: Promise<unknown>[] = [];
  for (let i = 0; i < messages; i += 1) {
    const due = began + (i * 1000) / PACE.perSecond;
    while (monotonicMs() < due) await pause(Math.max(1, due - monotonicMs() - 1));
    taken.push(contender.publish(due));
  }
  await Promise.all(taken);
  const count = await crowd.ask<CrowdCount>({ kind: 'count', messages, quietMs: QUIET_MS });
  const latency = histogramOf(count.latency);
  const measured = sizes[size];
  measured.p50 = latency.quantile(0.5);
  measured.p99 = latency.quantile(0.99);
  note(measured, count, messages * size);
}

function resultOf(entries: readonly Entry[], redis: RedisServer | null): BenchResult {
  const of = (name: string, size: Size): Measured | undefined =>
    entries.find(({ contender }) => contender.name === name)?.sizes[size];
  const rows: ResultRow[] = [];
  const ours = entries.filter(({ contender: { name } }) => name === TOCSIN || name === HUB);
  for (const { contender, sizes, bytesEach } of ours) {
    for (const size of [1000, 5000] as const) {
      const against = (name: string, aim: string): ResultRow[] => {
        const other = of(name, size);
        if (other === undefined) return [];
        const what = `${contender.name}, ${size} viewers`;
        const [all, each] = [median(sizes[size].perSecond), perCore(sizes[size])];
        return [
          { what, ours: all, unit: '/s', limit: median(other.perSecond), limitIs: name, aim },
          { what: `${what}, a core`, ours: each, unit: '/s', limit: perCore(other), limitIs: name, aim },
        ];
      };
      rows.push(...against(RAW, '90 %'), ...against(JOINED, ''), ...against(SOCKET_IO, '160 %'));
      const late = { limit: null, limitIs: '', unit: 'ms', ours: sizes[size].p99 };
      const what = `${contender.name}, ${size} viewers, p99 at ${PACE.perSecond} alerts/s`;
      rows.push({ ...late, what, aim: size === 5000 ? 'under 100 ms' : '' });
    }
    const memory = { limit: null, limitIs: '', unit: 'KB', ours: bytesEach / 1024 };
    rows.push({ ...memory, what: `${contender.name}, memory of an idle viewer`, aim: '8 KB' });
  }
  return {
    name: 'fanout',
    rows,
    grid: { head: GRID_HEAD, lines: entries.map(gridLine) },
    notes: [
      `median of ${ROUNDS} turns of ${SATURATE_MS} ms with ${WINDOW} messages under way; then ${PACE.perSecond} messages/s, open loop, late from when they were due`,
      'server and receivers (and for Tocsin PostgreSQL, Redis and the process that commits) share the cores; cores: of the server and of the receiving process while saturating (5,000 viewers); a core: deliveries for a second of the server’s processor',
      `wrong: deliveries that are missing, doubled or out of order, of all turns${redis === null ? '; no redis-server: without Tocsin whole and the adapter' : ''}`,
      'memory: resident, of the server process, each of 4,900 idle connections more, after as many that came and went, garbage collected; the kernel’s buffers not counted',
    ],
  };
}

const GRID_HEAD: readonly string[] = [
  'server',
  ...[1000, 5000].flatMap((size) => [`${size}: deliveries/s`, 'a core', 'p50 ms', 'p99 ms']),
  'KB/viewer',
  'cores',
  'wrong',
];

function gridLine({ contender, sizes, bytesEach }: Entry): string[] {
  const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
  const of = (measured: Measured): string[] => {
    const { p50, p99 } = measured;
    return [
      whole(median(measured.perSecond)),
      whole(perCore(measured)),
      p50.toFixed(p50 < 10 ? 1 : 0),
      p99.toFixed(p99 < 10 ? 1 : 0),
    ];
  };
  const most = sizes[5000];
  return [
    contender.name,
    ...of(sizes[1000]),
    ...of(most),
    (bytesEach / 1024).toFixed(1),
    `${median(most.server).toFixed(2)} + ${median(most.receiver).toFixed(2)}`,
    String(sizes[1000].wrong + most.wrong),
  ];
}
