import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFakeTime, type FakeTime } from '../fake-time.suite.ts';
import { createKey } from '../key.ts';
import type { Sender } from '../sender.ts';
import type { Answer } from '../verdict.ts';
import { type Agent, type AgentOptions, openAgent, SENDS_PER_SECOND } from './agent.ts';
import type { AgentNews } from './agent-news.ts';
import { type Machine, MeasureError } from './machine.ts';

const START = Date.UTC(2026, 10, 28, 12);
const OK: Answer = { kind: 'acknowledged' };
const LOST: Answer = { kind: 'failed', reason: 'connection-refused' };

let folder = '';
let time: FakeTime;
let agent: Agent | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-agent-'));
  time = createFakeTime(START);
});
afterEach(async () => {
  const stopping = agent?.stop();
  let stopped = stopping === undefined;
  void stopping?.then(() => (stopped = true));
  while (!stopped) {
    await settle();
    time.advance(1000);
  }
  agent = undefined;
  rmSync(folder, { recursive: true, force: true });
});

/** Lets the disk and all promises get on: a few writes of ours end after those of the agent that began before. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    const probe = await openFile(join(folder, 'probe'), 'a');
    await probe.write('x');
    await probe.datasync();
    await probe.close();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface Scripted {
  readonly sender: Sender;
  /** What was taken. */
  readonly taken: string[];
  /** When each try began, monotonic. */
  readonly tries: number[];
  answer: Answer;
}

function scripted(): Scripted {
  const self: Scripted = {
    taken: [],
    tries: [],
    answer: OK,
    sender: {
      send: async (sealed) => {
        self.tries.push(time.monotonic());
        if (self.answer.kind === 'acknowledged') self.taken.push(sealed);
        return self.answer;
      },
      askTime: async () => null,
      close: async () => undefined,
    },
  };
  return self;
}

/** Half busy, always. */
function steadyMachine(): Machine {
  return {
    cpuTimes: async () => ({ busy: time.monotonic() / 2, total: time.monotonic() }),
    memoryPercent: async () => 40,
    diskPercent: async () => 70,
  };
}

const news: AgentNews[] = [];
async function open(server: Scripted, more: Partial<AgentOptions> = {}): Promise<Agent> {
  news.length = 0;
  agent = await openAgent({
    ...{ id: 'h1', folder, sender: server.sender, sign: null, intervalMs: 5000, keep: 100, time, random: () => 0.5 },
    machine: steadyMachine(),
    gpu: { percent: () => 30, ask: () => undefined, close: () => undefined },
    own: { cpuMs: () => time.monotonic() / 200, residentBytes: () => 52 * 1_048_576 },
    tell: (one) => void news.push(one),
    ...more,
  });
  return agent;
}

/** Moves on in steps small enough for frames and sends to happen in between. */
async function pass(ms: number, step = 500): Promise<void> {
  for (let done = 0; done < ms; done += step) {
    time.advance(step);
    await settle();
  }
}

function timestamps({ taken }: Scripted): number[] {
  return taken.map((text) => (JSON.parse(text) as { timestamp: number }).timestamp - START / 1000);
}

describe('an agent', () => {
  it('sends the first frame after a second, then one each interval, with its numbers', async () => {
    const server = scripted();
    (await open(server)).start();
    await pass(12_000);
    expect(timestamps(server)).toEqual([1, 6, 11]);
    expect(JSON.parse(server.taken[1] ?? '')).toEqual({
      ...{ device_id: 'h1', timestamp: START / 1000 + 6, cpu_percent: 50, mem_percent: 40, disk_percent: 70 },
      ...{ gpu_percent: 30, agent_cpu_percent: 0.5, agent_mem_mb: 52 },
    });
    expect(news).toEqual([{ news: 'delivering', queued: 0 }]);
  });

  it('does not make up for moments that it missed', async () => {
    const server = scripted();
    let answer: (percent: number) => void = () => undefined;
    let hangs = false;
    const diskPercent = (): Promise<number> =>
      hangs ? new Promise((resolve) => (answer = resolve)) : Promise.resolve(70);
    (await open(server, { machine: { ...steadyMachine(), diskPercent } })).start();
    await pass(2000);
    hangs = true;
    await pass(600_000, 60_000);
    hangs = false;
    answer(70);
    await pass(10_000);
    // The one that hung, then one each interval from there: not the 118 between.
    const [first = 0, second = 0, ...others] = timestamps(server);
    expect(first).toBe(1);
    expect(second).toBeGreaterThan(500);
    expect(others.length).toBeGreaterThan(0);
    expect(others.length).toBeLessThanOrEqual(3);
  });

  it('keeps frames while the server is away and delivers them all, in order, faster than real time but paced', async () => {
    const server = scripted();
    server.answer = LOST;
    // Asked once at the start and once after each frame that was kept.
    let kept = -1;
    const gpu = { percent: () => null, ask: () => void (kept += 1), close: () => undefined };
    const opened = await open(server, { gpu });
    opened.start();
    await pass(101_000, 1000);
    expect(server.taken).toEqual([]);
    server.answer = OK;
    server.tries.length = 0;
    // The longest back-off is 5 minutes.
    await pass(302_000, 1000);
    const { queued, delivered, dropped } = opened.status();
    expect(dropped).toBe(0);
    expect(delivered).toBe(server.taken.length);
    expect(queued).toBeLessThanOrEqual(1);
    const times = timestamps(server);
    // The disk is a real one: while it is slow, moments pass without a frame. None that was kept is missing.
    expect(times.length).toBeGreaterThan(20);
    expect(times.length + queued).toBeGreaterThanOrEqual(kept);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times[0]).toBe(1);
    const gaps = server.tries.slice(1).map((at, place) => at - (server.tries[place] ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1000 / SENDS_PER_SECOND - 1e-6);
    expect(news).toMatchObject([{ news: 'waiting', reason: 'connection-refused', queued: 1 }, { news: 'delivering' }]);
  });

  it('drops the oldest when more wait than it may keep, counts them, and says so at most once a minute', async () => {
    const server = scripted();
    server.answer = LOST;
    const opened = await open(server, { keep: 5 });
    opened.start();
    await pass(100_000, 2500);
    await expect.poll(() => opened.status().queued).toBe(5);
    const { dropped } = opened.status();
    expect(dropped).toBeGreaterThan(11);
    const told = news.flatMap((one) => (one.news === 'dropped' ? one.frames : []));
    expect(told).toHaveLength(2);
    expect(told[0]).toBe(1);
    expect(told[1]).toBeGreaterThan(10);
  });

  it('goes on with what an earlier run left, first, also when it now signs', async () => {
    const server = scripted();
    server.answer = LOST;
    const first = await open(server);
    first.start();
    await pass(6000);
    const stopping = first.stop();
    await pass(3000);
    await stopping;
    server.answer = OK;
    const key = createKey();
    (await open(server, { sign: async () => key })).start();
    await pass(3000);
    const readings = server.taken.map((jws) => {
      const content = JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()) as {
        readings: [{ at: number }];
      };
      return content.readings[0].at - START;
    });
    expect(readings.slice(0, 2)).toEqual([1000, 6000]);
    expect(readings).toHaveLength(3);
  });

  it('makes no frame of numbers that it does not have, says so once, and says when it has them again', async () => {
    const server = scripted();
    let broken = false;
    const machine = steadyMachine();
    const diskPercent = async (): Promise<number> => {
      if (broken) throw new MeasureError('/data does not answer');
      return 70;
    };
    (await open(server, { machine: { ...machine, diskPercent } })).start();
    await pass(2000);
    broken = true;
    await pass(15_000);
    broken = false;
    await pass(5000);
    expect(timestamps(server)).toEqual([1, 21]);
    expect(news.slice(1)).toEqual([{ news: 'not-measured', detail: '/data does not answer' }, { news: 'working' }]);
  });

  it('does not open on a machine that it cannot measure, and leaves nothing locked', async () => {
    const server = scripted();
    const machine = { ...steadyMachine(), memoryPercent: () => Promise.reject(new MeasureError('no memory')) };
    const opening = open(server, { machine });
    await expect(opening).rejects.toThrow('no memory');
    await expect(open(server)).resolves.toBeDefined();
  });

  it('does not open in a folder that cannot be made', async () => {
    writeFileSync(join(folder, 'file'), '');
    await expect(open(scripted(), { folder: join(folder, 'file', 'x') })).rejects.toMatchObject({
      code: 'folder-unusable',
    });
  });
});

describe('a single frame', () => {
  async function once(server: Scripted): Promise<unknown> {
    const opened = await open(server);
    let outcome: unknown;
    void opened.once(60_000).then((how) => (outcome = how));
    for (let turn = 0; turn < 100 && outcome === undefined; turn += 1) await pass(1000, 1000);
    return outcome;
  }

  it.each([
    [OK, { outcome: 'delivered' }],
    [LOST, { outcome: 'waiting', reason: 'connection-refused' }],
    [{ kind: 'failed', reason: 'broker-refused' } as const, { outcome: 'refused', reason: 'broker-refused' }],
  ])('of which the server says %j ends as %j', async (answer, expected) => {
    const server = scripted();
    server.answer = answer;
    expect(await once(server)).toEqual(expected);
  });

  it('ends in time when there is no answer at all, and is kept', async () => {
    const server = scripted();
    const silent = { ...server, sender: { ...server.sender, send: () => new Promise<Answer>(() => undefined) } };
    expect(await once(silent)).toEqual({ outcome: 'waiting', reason: 'timeout' });
    expect(agent?.status().queued).toBe(1);
  });
});
