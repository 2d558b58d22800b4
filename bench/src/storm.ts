/**
 * 5,000 users whose sockets are all cut at once, and who all come back at the same moment, while alerts go on: how long until
 * all are back, who is left out, how long the missed messages take, and does everybody have each alert once, in order?
 * On the bus in memory and on Redis; at the same instant (the worst case) and spread as the SDK does it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { histogramOf } from '@tocsin/device/simulate/histogram';
import { programPath } from '@tocsin/testkit/machine';
import { startRedis } from '@tocsin/testkit/redis-server';
import { cpuOf } from './bench-server.ts';
import { startTocsinServer, type TocsinServer } from './contenders.ts';
import { monotonicMs } from './frame-reader.ts';
import { type Helper, startHelper } from './helper.ts';
import { startOutsideUsers } from './outside-users.ts';
import type { ComeBack, StormAsk, StormReport, StormTally } from './storm-process.ts';
import type { BenchResult, ResultRow } from './table.ts';

const USERS = 5000;
/** Alerts that everybody misses, and those that go on, a second. */
const MISSED = 20;
const PER_SECOND = 5;
const GIVE_UP_MS = 40_000;
const ISSUER = 'https://tocsin.bench';

interface Storm {
  readonly name: string;
  readonly report: StormReport;
  readonly tally: StormTally;
  readonly raised: number;
  /** Of that, until the server was ready again. */
  readonly startMs: number | null;
  /** Cores that the server and PostgreSQL used. */
  readonly cores: readonly [number, number];
}

/** Alerts at a steady pace until it is ended. */
function keepRaising(server: TocsinServer): { end(): Promise<number> } {
  let raised = 0;
  let over = false;
  const running = (async () => {
    for (let due = monotonicMs(); !over; due += 1000 / PER_SECOND) {
      await pause(Math.max(0, due - monotonicMs()));
      await server.raise(due);
      raised += 1;
    }
  })();
  return {
    end: async () => {
      over = true;
      await running;
      return raised;
    },
  };
}

/** Runs the benchmark. */
export async function benchStorm(): Promise<BenchResult> {
  const storms: Storm[] = [];
  const notes: string[] = [];
  for (const bus of ['memory', 'Redis'] as const) {
    if (bus === 'Redis' && programPath('redis-server') === null) {
      notes.push('no redis-server: without it');
      continue;
    }
    storms.push(...(await stormsOn(bus, notes)));
  }
  return {
    name: 'storm',
    rows: storms.flatMap(rowsOf),
    grid: { head: GRID_HEAD, lines: storms.map(gridLine) },
    notes: [
      `${USERS} users of an outside identity provider (a token each, ES256), one connection each, all from one address; each storm: all are reset at once, ${MISSED} alerts are raised, then all come back and resume while ${PER_SECOND} alerts/s go on`,
      'server, PostgreSQL, Redis and the users’ process share the cores',
      ...notes,
    ],
  };
}

async function stormsOn(bus: 'memory' | 'Redis', notes: string[]): Promise<Storm[]> {
  const redis = bus === 'Redis' ? await startRedis() : null;
  const provider = await startOutsideUsers(ISSUER);
  const settings = { JWT_ISSUER: ISSUER, JWKS_URL: provider.jwksUrl };
  const server = await startTocsinServer(redis?.url ?? null, settings);
  const users = startHelper<StormAsk>('storm-process.js');
  try {
    const tokens = Array.from({ length: USERS }, (_, n) => provider.token(n));
    const seconds = await users.ask<number>({ kind: 'connect', port: server.bench.port, tokens });
    notes.push(`${bus}: the first connects, 100 at once, took ${seconds.toFixed(1)} s`);
    const raised = { count: 0 };
    const storms: Storm[] = [];
    for (const kind of STORMS) {
      // The private PostgreSQL ends with its server, and with it what raises alerts beside it.
      if (kind.restart && redis !== null) continue;
      storms.push(await storm(bus, kind, server, users, raised));
    }
    return storms;
  } finally {
    await users.stop();
    await server.stop();
    provider.stop();
    await redis?.stop();
  }
}

/** What happens to everybody, and how they come back. */
const STORMS = [
  { name: 'at once', how: 'at-once', restart: false },
  { name: 'spread as the SDK does', how: 'sdk', restart: false },
  { name: 'the server killed and started anew, as the SDK does', how: 'sdk', restart: true },
] as const satisfies readonly { name: string; how: ComeBack; restart: boolean }[];

async function storm(
  bus: string,
  { name, how, restart }: (typeof STORMS)[number],
  server: TocsinServer,
  users: Helper<StormAsk>,
  raised: { count: number },
): Promise<Storm> {
  await users.ask({ kind: 'cut' });
  for (let i = 0; i < MISSED; i += 1) await server.raise(monotonicMs());
  raised.count += MISSED;
  const pid = (): number => server.bench.server.child.pid ?? 0;
  const began = monotonicMs();
  let before = restart ? { own: 0, children: 0 } : await cpuOf(pid());
  const started = restart ? server.bench.restart() : Promise.resolve();
  const coming = users.ask<StormReport>({ kind: 'back', how, missed: raised.count, giveUpMs: GIVE_UP_MS });
  await started;
  const startMs = monotonicMs() - began;
  if (restart) before = await cpuOf(pid());
  const raising = keepRaising(server);
  const report = await coming;
  const seconds = (monotonicMs() - began - startMs) / 1000;
  const after = await cpuOf(pid());
  raised.count += await raising.end();
  const tally = await users.ask<StormTally>({ kind: 'reach', offset: raised.count, giveUpMs: 20_000 });
  return {
    name: `${bus}, ${name}`,
    report,
    tally,
    raised: raised.count,
    startMs: restart ? startMs : null,
    cores: [(after.own - before.own) / seconds, (after.children - before.children) / seconds],
  };
}

const wrongOf = ({ tally, raised }: Storm): number =>
  tally.missing + tally.duplicates + Math.abs(raised * USERS - tally.deliveries);
const leftOutOf = ({ report, tally }: Storm): number => report.leftOut + report.unrecovered + tally.behind;

function rowsOf(one: Storm): ResultRow[] {
  const row = (what: string, ours: number, unit: string, aim: string): ResultRow => ({
    ...{ what: `${one.name}: ${what}`, ours, unit, aim },
    limit: null,
    limitIs: '',
  });
  const replay = histogramOf(one.report.replay);
  return [
    row('all are back', one.report.backMs / 1000, 's', '5 s'),
    row('connect to the last missed message, p99', replay.quantile(0.99) / 1000, 's', 'under 2 s'),
    row('left out, not resumed, missing, doubled, out of order', leftOutOf(one) + wrongOf(one), '', '0'),
  ];
}

const GRID_HEAD: readonly string[] = [
  'storm',
  'all back',
  'server ready after',
  'welcome p50, p99',
  'replay p50, p99',
  'tries that failed',
  'left out',
  'alerts',
  'wrong',
  'cores: server, store, users',
];

function gridLine(one: Storm): string[] {
  const { report, cores, startMs } = one;
  const seconds = (ms: number): string => (ms / 1000).toFixed(2);
  const both = (record: StormReport['replay']): string => {
    const histogram = histogramOf(record);
    return `${seconds(histogram.quantile(0.5))}, ${seconds(histogram.quantile(0.99))} s`;
  };
  const failed = Object.entries(report.failed).map(([status, n]) => `${n} x ${status === '0' ? 'no answer' : status}`);
  return [
    one.name,
    `${seconds(report.caughtUpMs)} s`,
    startMs === null ? '-' : `${seconds(startMs)} s`,
    both(report.welcome),
    both(report.replay),
    failed.length === 0 ? '0' : failed.join(', '),
    String(leftOutOf(one)),
    String(one.raised),
    String(wrongOf(one)),
    [...cores, report.cpu / Math.max(0.01, report.caughtUpMs / 1000)].map((share) => share.toFixed(2)).join(', '),
  ];
}
