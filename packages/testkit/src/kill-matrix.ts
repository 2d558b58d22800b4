/**
 * One round of the kill matrix: twenty senders post while server, PostgreSQL or both are killed (SIGKILL) at a random
 * moment; then everything is counted. Senders do what devices do: sign again with the same id until 202 or 409.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { call, post, type ScriptedDevice } from './device.ts';
import { registerFleet } from './fleet.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { connectSteadily } from './steady-viewer.ts';

/** Who is killed. */
export type Victim = 'server' | 'postgres' | 'both';

/** What came of a round. */
export interface KillReport {
  readonly victim: Victim;
  /** Ms after the first post. */
  readonly killedAfterMs: number;
  /** The longest time without a 202 that the kill fell into or that came after it, ms. */
  readonly outageMs: number;
  /** Readings whose envelope was answered with 202 or 409. */
  readonly accepted: number;
  readonly stored: number;
  /** Posts that got no answer or 503 and were sent again. */
  readonly retries: number;
  /** Answers that no sender should ever get. */
  readonly strange: Readonly<Record<string, number>>;
  readonly alerts: number;
  /** `alert` messages at the viewer. */
  readonly seen: number;
  readonly viewerFaults: readonly string[];
  readonly viewerConnections: number;
}

const SENDERS = 20;
const ENVELOPES = 120;
const SENSORS = 50;

/** A server on `folder` with devices that is ready for rounds. */
export interface KillBench {
  round(victim: Victim, name: string): Promise<KillReport>;
  close(): Promise<void>;
}

/** Starts the server on a folder of its own. */
export async function openKillBench(folder: string): Promise<KillBench> {
  const port = await freePort();
  const environment = {
    RATE_LIMIT_PER_KEY: '100000',
    RATE_LIMIT_PER_DEVICE: '100000',
    WS_RECONNECTS_PER_MINUTE: '10000',
    WS_MAX_CONNECTIONS_PER_USER: '10',
    SWARM_SENSORS: String(SENSORS),
    LOG_LEVEL: 'warn',
  };
  let server = startServer(folder, port, environment);
  await server.ready();
  const token = await signIn(server.base);
  const restart = async (): Promise<void> => {
    await server.exited;
    server = startServer(folder, port, environment);
    await server.ready();
  };
  return {
    round: (victim, name) =>
      round({ folder, token, name, victim, server: () => server, restart }).catch((error: unknown) => {
        throw new Error(`round ${name} failed; the server said:\n${server.output()}`, { cause: error });
      }),
    close: async () => {
      server.child.kill('SIGTERM');
      await server.exited;
    },
  };
}

interface Round {
  readonly folder: string;
  readonly token: string;
  readonly name: string;
  readonly victim: Victim;
  readonly server: () => ServerProcess;
  readonly restart: () => Promise<void>;
}

interface Counts {
  accepted: number;
  retries: number;
  readonly strange: Record<string, number>;
  /** `performance.now()` of each 202. */
  readonly acceptedAt: number[];
}

async function round(options: Round): Promise<KillReport> {
  const { token, name, victim } = options;
  const { base } = options.server();
  const fleet = (await registerFleet(base, token, { name, zones: 1, perZone: SENSORS + 10 })).flat();
  const viewer = await connectSteadily(`${base.replace('http', 'ws')}/ws/alerts`, token);
  const counts: Counts = { accepted: 0, retries: 0, strange: {}, acceptedAt: [] };
  const began = performance.now();
  const sending = sendAll(base, fleet, counts);
  // Well before the last envelope is sent: later there would be nothing left to lose.
  const killedAfterMs = randomInt(20, 500);
  await pause(killedAfterMs);
  const killedAt = performance.now();
  await kill(options);
  if (victim !== 'postgres') await options.restart();
  await sending;
  await options.server().ready();
  const { stored, alerts, head } = await settle(base, token, `${name}-0`, counts.accepted);
  await viewer.reach(head, 15_000);
  const mine = viewer
    .channel()
    .filter((message) => (message.data as { zoneId?: string } | undefined)?.zoneId === `${name}-0`);
  const report: KillReport = {
    victim,
    killedAfterMs: Math.round(killedAt - began),
    outageMs: Math.round(longestGap(counts.acceptedAt, killedAt)),
    accepted: counts.accepted,
    stored,
    retries: counts.retries,
    strange: counts.strange,
    alerts,
    seen: mine.filter((message) => message.type === 'alert').length,
    viewerFaults: viewer.faults(),
    viewerConnections: viewer.connections(),
  };
  await viewer.close();
  return report;
}

/** Between two of the times `at`, the second of them after `from`. */
function longestGap(at: readonly number[], from: number): number {
  const sorted = at.toSorted((a, b) => a - b);
  return Math.max(0, ...sorted.map((time, i) => (time > from ? time - (sorted[i - 1] ?? from) : 0)));
}

/** Each sender has three devices; every device's first envelope is part of the earthquake, the others follow it. */
async function sendAll(base: string, fleet: readonly ScriptedDevice[], counts: Counts): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: SENDERS });
  const quake = Date.now();
  const each = Math.ceil(fleet.length / SENDERS);
  await Promise.all(
    Array.from({ length: SENDERS }, async (_, sender) => {
      const devices = fleet.slice(sender * each, (sender + 1) * each);
      for (let i = 0; i < ENVELOPES; i += 1) {
        const device = devices[i % devices.length];
        if (device === undefined) return;
        const at = i < devices.length ? quake : Date.now() - 61_000;
        await sendOne(base, agent, device, `e${i}`, at, counts);
      }
    }),
  );
  agent.destroy();
}

/** Until 202, or 409 for what an unanswered try has made durable. */
async function sendOne(
  base: string,
  agent: Agent,
  device: ScriptedDevice,
  id: string,
  at: number,
  counts: Counts,
): Promise<void> {
  for (;;) {
    const answer = await post(base, CREDENTIALS.apiKey, device.seal(id, { readings: [{ at, value: 7 }] }), agent).catch(
      () => null,
    );
    if (answer?.status === 202) counts.acceptedAt.push(performance.now());
    if (answer?.status === 202 || (answer?.status === 409 && answer.body?.['code'] === 'replay')) {
      counts.accepted += 1;
      return;
    }
    if (answer !== null && answer.status !== 503) {
      const name = `${answer.status} ${String(answer.body?.['code'])}`;
      counts.strange[name] = (counts.strange[name] ?? 0) + 1;
      if (answer.status !== 429) return;
    }
    counts.retries += 1;
    await pause(20 + randomInt(40));
  }
}

async function kill({ victim, folder, server }: Round): Promise<void> {
  const postmaster = Number((await readFile(`${folder}/data/postgres/postmaster.pid`, 'utf8')).split('\n')[0]);
  if (victim !== 'postgres') server().child.kill('SIGKILL');
  if (victim !== 'server') process.kill(postmaster, 'SIGKILL');
}

/** Waits until as many are stored as were accepted (more would be wrong too, so it looks again), and reads what else counts. */
async function settle(
  base: string,
  token: string,
  zone: string,
  accepted: number,
): Promise<{ stored: number; alerts: number; head: number }> {
  const headers = { authorization: `Bearer ${token}` };
  const read = async (path: string): Promise<Record<string, unknown>> => {
    for (let tries = 0; ; tries += 1) {
      const answer = await call(base + path, { headers });
      if (answer.status === 200 && answer.body !== null) return answer.body;
      // Children of a killed postmaster answer a moment longer, so `ready` may say yes just before the store is away.
      if (answer.status !== 503 || tries >= 100) throw new Error(`${path}: ${answer.status}`);
      await pause(100);
    }
  };
  let stored = -1;
  for (let tries = 0; tries < 100 && stored !== accepted; tries += 1) {
    stored = Number((await read(`/v1/zones/${zone}/statistics`))['count']);
    if (stored !== accepted) await pause(100);
  }
  await pause(500);
  stored = Number((await read(`/v1/zones/${zone}/statistics`))['count']);
  const alerts = (await read(`/v1/alerts?zone=${zone}`))['items'] as { offset: number }[];
  return { stored, alerts: alerts.length, head: Math.max(0, ...alerts.map((alert) => alert.offset)) };
}
