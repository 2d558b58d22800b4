import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { device } from './live-device.suite.ts';
import type { LiveForm } from './live-frames.ts';
import { createLiveHub, type LiveHub } from './live-hub.ts';
import { createLiveState, type LiveState } from './live-state.ts';
import { createScriptedSink, decodeFrames, type ScriptedSink } from './scripted-sink.suite.ts';
import { textFrame } from './frame.ts';

const WINDOW = 30_000;
const LIMITS = { socketBytes: 65_536, messages: 1000, bytes: 4_194_304 };

interface System {
  readonly state: LiveState;
  readonly hub: LiveHub;
  readonly at: { now: number };
  ready: boolean;
  fedAt: number | null;
  hear(id: string, cpu: number): void;
  join(options?: { form?: LiveForm; stuck?: boolean; resume?: boolean }): Promise<ScriptedSink>;
}

const hubs: LiveHub[] = [];
afterEach(() => {
  for (const hub of hubs.splice(0)) hub.stop();
});

function open(watermarkSeconds = 10): System {
  const at = { now: 1_000_000 };
  const clock = { now: () => at.now, monotonic: () => at.now };
  const state = createLiveState({ clock, windowMs: WINDOW, most: 100_000 });
  const hub = createLiveHub({
    ...{ state, clock, watermarkSeconds, queue: LIMITS },
    ready: () => system.ready,
    fedAt: () => system.fedAt,
  });
  hubs.push(hub);
  const system: System = {
    ...{ state, hub, at, ready: true, fedAt: at.now },
    hear: (id, cpu) => void state.offer(device(id, (at.now += 1), cpu)),
    async join({ form = 'tocsin', stuck = false, resume = false } = {}) {
      const sink = createScriptedSink(stuck);
      const door = hub.door(form);
      const plan = await door.plan(resume ? { epoch: 'live', offset: 0 } : null);
      if ('code' in plan) throw new Error(plan.code);
      door.attach(sink, plan, null, { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 });
      return sink;
    },
  };
  return system;
}

const turns = async (n = 20): Promise<void> => {
  for (let turn = 0; turn < n; turn++) await new Promise((resolve) => setImmediate(resolve));
};
/** What a dashboard that keeps the latest of each device shows: cpu by id. */
function picture(sink: ScriptedSink): Record<string, number> {
  const shown: Record<string, number> = {};
  for (const text of decodeFrames(Buffer.concat(sink.writes))) {
    const message = JSON.parse(text) as { type?: string; data?: Record<string, { cpu_percent: number }> };
    for (const [id, frame] of Object.entries(message.data ?? {})) shown[id] = frame.cpu_percent;
  }
  return shown;
}
const board = (state: LiveState): Record<string, number> =>
  Object.fromEntries([...state.active()].map(([id, { frame }]) => [id, frame.cpu_percent]));
const types = (sink: ScriptedSink): string[] => sink.messages().map(({ type }) => type);

describe('viewers of the live state', () => {
  it('get welcome, the snapshot right after it when there is any device, then one device for each message', async () => {
    const system = open();
    const first = await system.join();
    system.hear('a', 1);
    system.hear('b', 2);
    await turns();
    const second = await system.join();
    system.hear('a', 3);
    await turns();
    expect(types(first)).toEqual(['welcome', 'metrics', 'metrics', 'metrics']);
    expect(types(second)).toEqual(['welcome', 'snapshot', 'metrics']);
    expect(second.messages()[1]?.['data']).toMatchObject({ a: { cpu_percent: 1 }, b: { cpu_percent: 2 } });
    expect(Object.keys(second.messages()[2]?.['data'] as object)).toEqual(['a']);
    expect(second.messages()[0]).toMatchObject({ channel: 'devices', epoch: 'live', offset: 0, recovered: true });
  });

  it('are all written the same bytes, once for what changed together', async () => {
    const system = open();
    const sinks = [await system.join(), await system.join()];
    for (let n = 0; n < 50; n++) system.hear(`h${n % 25}`, n);
    await turns();
    const [one, other] = sinks.map((sink) => sink.writes.slice(1));
    expect(one).toHaveLength(1);
    expect(one?.[0]).toBe(other?.[0]);
    expect(decodeFrames(one?.[0] ?? Buffer.alloc(0))).toHaveLength(25);
  });

  it('share one snapshot when they come together, and none shows a device that has left', async () => {
    const system = open();
    system.hear('a', 1);
    const [one, other] = [await system.join(), await system.join()];
    expect(one.writes[1]).toBe(other.writes[1]);
    system.hear('b', 2);
    const third = await system.join();
    await turns();
    expect(picture(third)).toEqual({ a: 1, b: 2 });
    system.at.now += WINDOW - 1;
    expect(picture(await system.join())).toEqual({ b: 2 });
    system.at.now += 1;
    expect(types(await system.join())).toEqual(['welcome']);
  });

  it('that are slow are never closed, hold nothing but their socket, and end with the latest of 2,000 devices', async () => {
    const system = open();
    const slow = await system.join({ stuck: true });
    const quick = await system.join();
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 2000; n++) system.hear(`h${n}`, (n * 7 + round) % 100);
      await turns(60);
      expect(slow.writableLength).toBeLessThanOrEqual(LIMITS.socketBytes);
    }
    expect(system.hub.standing().waiting).toBe(1);
    let drains = 0;
    for (; system.hub.standing().waiting > 0; drains++) {
      slow.drain();
      await turns(2);
    }
    expect(slow.closed).toBe(null);
    expect([picture(slow), picture(quick)]).toEqual([board(system.state), board(system.state)]);
    // What it was sent: at most what was in its socket, and each device once or so, not five times.
    expect(slow.messages().length).toBeLessThan(2000 * 2 + 400);
    expect(quick.messages().length).toBe(1 + 5 * 2000);
    expect(drains).toBeLessThan(40);
  });

  it('that are slow hear of each device in turn while all of them change all the time', async () => {
    const system = open();
    const slow = await system.join({ stuck: true });
    for (let round = 0; round < 30; round++) {
      for (let n = 0; n < 1000; n++) system.hear(`h${n}`, round);
      await turns(8);
      slow.drain();
    }
    expect(Object.keys(picture(slow))).toHaveLength(1000);
  });

  it('that cannot take the snapshot at once get it when they can, as it is then, and are level after it', async () => {
    const system = open();
    for (let n = 0; n < 2000; n++) system.hear(`h${n}`, 1);
    const sink = createScriptedSink(true);
    sink.write(textFrame('what was there before'));
    const door = system.hub.door('tocsin');
    const plan = await door.plan(null);
    if ('code' in plan) throw new Error(plan.code);
    door.attach(sink, plan, null, { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 });
    for (let n = 0; n < 2000; n++) system.hear(`h${n}`, 2);
    await turns();
    sink.stuck = false;
    sink.writes.splice(0, 1);
    sink.drain();
    await turns(60);
    expect(types(sink).slice(0, 2)).toEqual(['welcome', 'snapshot']);
    expect(picture(sink)).toEqual(board(system.state));
  });

  it('end where the board is, however they drain and whatever changes, leaves and joins meanwhile', async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant('hear' as const),
          many: fc.integer({ min: 1, max: 700 }),
          from: fc.nat(500),
        }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('drain' as const), who: fc.nat(5) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('join' as const), stuck: fc.boolean(), raw: fc.boolean() }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 20_000 }) }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const system = open();
        const sinks: ScriptedSink[] = [await system.join({ stuck: true }), await system.join()];
        let cpu = 0;
        for (const next of steps) {
          if (next.do === 'hear')
            for (let n = 0; n < next.many; n++) system.hear(`h${next.from + n}`, (cpu += 1) % 101);
          else if (next.do === 'drain') sinks[next.who % sinks.length]?.drain();
          else if (next.do === 'turn') await turns(3);
          else if (next.do === 'pass') system.at.now += next.ms;
          else sinks.push(await system.join({ stuck: next.stuck, form: next.raw ? 'raw' : 'tocsin' }));
        }
        for (let n = 0; n < 60; n++) {
          for (const sink of sinks) sink.drain();
          await turns(2);
        }
        const expected = board(system.state);
        for (const sink of sinks) {
          const shown = decoded(sink);
          expect(sink.closed).toBe(null);
          // It may still show what has left since; of what is active it shows the latest.
          expect(Object.fromEntries(Object.keys(expected).map((id) => [id, shown[id]]))).toEqual(expected);
        }
        system.hub.stop();
      }),
      { numRuns: 40 },
    );
  });

  it('of the raw form get frames alone, the snapshot first as one message, and nothing else', async () => {
    const system = open(0.05);
    system.hub.start();
    system.hear('a', 1);
    system.hear('b', 2);
    const sink = await system.join({ form: 'raw' });
    system.hear('b', 3);
    system.hear('c', 4);
    await turns();
    await new Promise((resolve) => setTimeout(resolve, 60));
    const messages = decodeFrames(Buffer.concat(sink.writes)).map(
      (text) => JSON.parse(text) as Record<string, unknown>,
    );
    expect(messages.map((message) => Object.keys(message))).toEqual([['a', 'b'], ['b'], ['c']]);
    expect(messages[1]?.['b']).toMatchObject({ device_id: 'b', cpu_percent: 3, gpu_percent: null });
  });

  it('get a watermark in its time while the board is fed, after everything known, and not while they are behind', async () => {
    const system = open(0.02);
    const [level, stuck] = [await system.join(), await system.join({ stuck: true })];
    system.hub.start();
    const marks = (sink: ScriptedSink): unknown[] =>
      sink
        .messages()
        .filter(({ type }) => type === 'watermark')
        .map(({ offset, at }) => [offset, at]);
    await expect.poll(() => ((system.at.now += 20), marks(level).length)).toBeGreaterThan(1);
    expect(marks(level)[0]).toEqual([0, system.fedAt]);
    for (let n = 0; n < 2000; n++) system.hear(`h${n}`, 1);
    await turns(60);
    const before = marks(stuck).length;
    const reached = marks(level).length;
    await expect.poll(() => ((system.at.now += 20), marks(level).length)).toBeGreaterThan(reached);
    expect(marks(stuck)).toHaveLength(before);
    system.fedAt = null;
    await turns();
    const now = marks(level).length;
    for (let n = 0; n < 20; n++) {
      system.at.now += 20;
      await new Promise((resolve) => setTimeout(resolve, 6));
    }
    expect(marks(level).length).toBeLessThanOrEqual(now + 1);
  });

  it('are refused until the board is known; one who asks to resume is told that there is no history', async () => {
    const system = open();
    system.ready = false;
    await expect(system.join()).rejects.toThrow('store-unavailable');
    system.ready = true;
    const sink = await system.join({ resume: true });
    expect(sink.messages()[0]).toMatchObject({ recovered: false, offset: 0 });
  });

  it('are closed with 1001 when the hub stops, and written nothing after a close', async () => {
    const system = open();
    const sink = await system.join();
    system.hear('a', 1);
    system.hub.stop();
    await turns();
    expect([sink.closed?.code, system.hub.viewers()]).toEqual([1001, 0]);
  });
});

function decoded(sink: ScriptedSink): Record<string, number> {
  const shown: Record<string, number> = {};
  for (const text of decodeFrames(Buffer.concat(sink.writes))) {
    const message = JSON.parse(text) as { type?: string; data?: Record<string, { cpu_percent: number }> };
    const frames = message.type === undefined ? (message as Record<string, { cpu_percent: number }>) : message.data;
    for (const [id, frame] of Object.entries(frames ?? {})) shown[id] = frame.cpu_percent;
  }
  return shown;
}
