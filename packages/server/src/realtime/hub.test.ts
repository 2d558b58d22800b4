import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Clock } from '../lib/clock.ts';
import { createMemoryBus } from '../bus/memory/bus.ts';
import { channelTopic, createChannelPublisher, encodeMessage } from './channel.ts';
import { createHub, type Hub, type HubEvents, type HubOptions } from './hub.ts';
import {
  createScriptedSink,
  createScriptedStore,
  type ScriptedSink,
  type ScriptedStore,
  type SentMessage,
} from './scripted-sink.suite.ts';

const NO_FILTER = { zone: null, minSeverity: null };
const WELCOME = { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (count = 20): Promise<void> => {
  for (let n = 0; n < count; n++) await turn();
};

let time = 1_000_000;
const clock: Clock = { now: () => time, monotonic: () => time };
const hubs: Hub[] = [];
afterEach(async () => {
  for (const hub of hubs.splice(0)) await hub.stop();
});

interface Bench {
  readonly store: ScriptedStore;
  readonly hub: Hub;
  readonly events: { [Name in keyof HubEvents]: ReturnType<typeof vi.fn> };
  publish(offset: number): Promise<void>;
  raw(payload: string): Promise<void>;
  watch(
    resume?: { epoch: string; offset: number } | null,
    sink?: ScriptedSink,
    filter?: Parameters<Hub['attach']>[2],
  ): Promise<ScriptedSink>;
}

async function open(store = createScriptedStore(), more: Partial<HubOptions> = {}): Promise<Bench> {
  const bus = createMemoryBus({ clock });
  await bus.close();
  const events = {
    fanout: vi.fn(),
    sent: vi.fn(),
    replayed: vi.fn(),
    dropped: vi.fn(),
    lag: vi.fn(),
    failure: vi.fn(),
    restarted: vi.fn(),
  };
  const hub = createHub({
    channel: 'alerts',
    store,
    pubsub: bus.pubsub,
    clock,
    watermarkSeconds: 10,
    pollMs: 3_600_000,
    events,
    ...more,
  });
  hubs.push(hub);
  await hub.start();
  const publisher = createChannelPublisher({ pubsub: bus.pubsub });
  return {
    store,
    hub,
    events,
    async publish(offset) {
      const row = store.rows.find((candidate) => candidate.offset === offset);
      if (row !== undefined) await publisher.publish([row]);
    },
    raw: (payload) => bus.pubsub.publish(channelTopic('alerts'), payload),
    async watch(resume = null, sink = createScriptedSink(), filter = NO_FILTER) {
      const plan = await hub.plan(resume);
      if ('code' in plan) throw new Error(plan.code);
      hub.attach(sink, plan, filter, WELCOME);
      return sink;
    },
  };
}

const offsets = (sink: ScriptedSink): number[] =>
  sink.messages().flatMap((message) => (message.type === 'alert' ? [message.offset ?? -1] : []));
const first = (sink: ScriptedSink): SentMessage | undefined => sink.messages()[0];
const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n);
const filled = (count: number): ScriptedStore => {
  const store = createScriptedStore();
  for (let n = 0; n < count; n++) store.append();
  return store;
};

describe('welcome', () => {
  it('tells a fresh viewer the head, and is all it gets', async () => {
    const { watch } = await open(filled(5));
    const sink = await watch();
    await turns();
    expect(sink.messages()).toEqual([
      {
        type: 'welcome',
        connection: 'c',
        channel: 'alerts',
        epoch: 'e1',
        offset: 5,
        recovered: true,
        heartbeatSeconds: 30,
        watermarkSeconds: 10,
        reauthenticateBy: 1,
      },
    ]);
  });

  it('tells a resumed viewer the offset it asked for, and what it missed follows', async () => {
    const { watch } = await open(filled(5));
    const sink = await watch({ epoch: 'e1', offset: 2 });
    await turns();
    expect(first(sink)).toMatchObject({ type: 'welcome', offset: 2, recovered: true });
    expect(offsets(sink)).toEqual([3, 4, 5]);
  });

  it.each([
    ['another epoch', { epoch: 'other', offset: 2 }],
    ['an offset above the head', { epoch: 'e1', offset: 10_006 }],
    ['a gap over 10,000', { epoch: 'e1', offset: 4 }],
  ])('says for %s that nothing was recovered, with the head and nothing partial', async (_name, resume) => {
    const { watch } = await open(filled(10_005));
    const sink = await watch(resume);
    await turns();
    expect(sink.messages()).toHaveLength(1);
    expect(first(sink)).toMatchObject({ recovered: false, offset: 10_005, epoch: 'e1' });
  });

  it('recovers a gap of exactly 10,000, in order, once', async () => {
    const { watch } = await open(filled(10_005));
    const sink = await watch({ epoch: 'e1', offset: 5 });
    await vi.waitFor(() => expect(offsets(sink)).toHaveLength(10_000));
    expect(offsets(sink)).toEqual(range(6, 10_005));
  });

  it('believes a viewer that has seen more than this process, once the store agrees', async () => {
    const { watch, store } = await open(filled(3));
    store.append();
    store.append();
    const sink = await watch({ epoch: 'e1', offset: 4 });
    await turns();
    expect(first(sink)).toMatchObject({ recovered: true, offset: 4 });
    expect(offsets(sink)).toEqual([5]);
  });

  it('recovers nothing when the store no longer has what was missed', async () => {
    const store = filled(3000);
    store.rows.splice(0, 100);
    const { watch } = await open(store);
    expect(first(await watch({ epoch: 'e1', offset: 50 }))).toMatchObject({ recovered: false, offset: 3000 });
    expect(first(await watch({ epoch: 'e1', offset: 100 }))).toMatchObject({ recovered: true, offset: 100 });
  });
});

describe('delivery', () => {
  it('passes committed messages on by the bus, without asking the store', async () => {
    const { watch, store, publish } = await open(filled(2));
    const sink = await watch();
    const { reads } = store;
    store.append();
    await publish(3);
    await turns();
    expect(offsets(sink)).toEqual([3]);
    expect(store.reads).toBe(reads);
  });

  it('fills a gap from the store before it goes on', async () => {
    const { watch, store, publish } = await open();
    const sink = await watch();
    for (let n = 0; n < 5; n++) store.append();
    await publish(5);
    await turns();
    expect(offsets(sink)).toEqual([1, 2, 3, 4, 5]);
  });

  it('finds by reading the head what nobody published', async () => {
    const { watch, store, hub } = await open();
    const sink = await watch();
    for (let n = 0; n < 700; n++) store.append();
    await hub.refresh();
    await turns(60);
    expect(offsets(sink)).toEqual(range(1, 700));
  });

  it('drops bus messages that are none of the channel and counts them', async () => {
    const { watch, store, raw, events } = await open();
    const sink = await watch();
    const row = store.append();
    await raw(encodeMessage({ ...row, channel: 'other' }));
    await raw(encodeMessage(row).replace('[', '[1,'));
    await raw('junk');
    await turns();
    expect(offsets(sink)).toEqual([]);
    expect(events.dropped.mock.calls.flat()).toEqual(['other-channel', 'malformed', 'malformed']);
  });

  it('gives each viewer what its filter lets through', async () => {
    const { watch, store, hub } = await open();
    const all = await watch();
    const zone = await watch(null, createScriptedSink(), { zone: 'z1', minSeverity: null });
    const severe = await watch(null, createScriptedSink(), { zone: null, minSeverity: 'severe' });
    const both = await watch(null, createScriptedSink(), { zone: 'z1', minSeverity: 'extreme' });
    store.append({ zoneId: 'z1', severity: 1 });
    store.append({ zoneId: 'z2', severity: 3 });
    store.append({ zoneId: 'z1', severity: 4 });
    store.append({ severity: 0 });
    await hub.refresh();
    await turns();
    const missed = await watch({ epoch: 'e1', offset: 0 }, createScriptedSink(), {
      zone: 'z1',
      minSeverity: 'extreme',
    });
    await turns();
    expect([all, zone, severe, both, missed].map(offsets)).toEqual([[1, 2, 3, 4], [1, 3], [2, 3], [3], [3]]);
  });

  it('sends what came in one turn in one write, the same bytes to all', async () => {
    const { watch, store, hub } = await open();
    const one = await watch();
    const two = await watch();
    store.append();
    store.append();
    await hub.refresh();
    await turns();
    expect(one.writes).toHaveLength(2);
    expect(one.writes[1]).toBe(two.writes[1]);
  });

  it('closes a viewer that does not drain with 4008, and it resumes without loss', async () => {
    const queue = { socketBytes: 500, messages: 20, bytes: 100_000 };
    const { watch, store, hub } = await open(createScriptedStore(), { queue });
    const slow = await watch(null, createScriptedSink(true));
    const quick = await watch();
    for (let n = 0; n < 60; n++) {
      store.append();
      await hub.refresh();
      await turns(3);
    }
    expect(slow.closed).toMatchObject({ code: 4008 });
    expect(quick.closed).toBeNull();
    const seen = offsets(slow);
    expect(seen).toEqual(range(1, seen.length));
    const again = await watch({ epoch: 'e1', offset: seen.length });
    await turns(60);
    expect(offsets(again)).toEqual(range(seen.length + 1, 60));
  });

  it('says what waits for viewers that do not drain, and no more once they have', async () => {
    const { store, hub, publish, watch } = await open();
    const [slow] = [await watch(null, createScriptedSink(true)), await watch()];
    const standing = (): object => ({ ...hub.standing(), checkedMs: 0 });
    expect(standing()).toEqual({ waiting: 0, queuedBytes: 0, checkedMs: 0 });
    const body = JSON.stringify({ text: 'x'.repeat(40_000) });
    for (let n = 0; n < 3; n++) await publish(store.append({ body }).offset);
    await turns();
    const { waiting, queuedBytes } = hub.standing();
    expect(waiting).toBe(1);
    expect(queuedBytes).toBeGreaterThan(40_000);
    slow.stuck = false;
    slow.drain();
    await turns();
    expect(standing()).toEqual({ waiting: 0, queuedBytes: 0, checkedMs: 0 });
  });

  it('keeps its order while fan-out over many viewers yields to the event loop', async () => {
    let ticks = 0;
    const busy: Clock = { now: () => time, monotonic: () => (ticks += 1) };
    const { watch, store, hub } = await open(createScriptedStore(), { clock: busy });
    const sinks = await Promise.all(Array.from({ length: 300 }, () => watch()));
    for (let n = 0; n < 30; n++) {
      store.append();
      await hub.refresh();
    }
    await vi.waitFor(() => expect(sinks.every((sink) => offsets(sink).length === 30)).toBe(true));
    for (const sink of sinks) expect(offsets(sink)).toEqual(range(1, 30));
  });

  it('yields to the event loop as often when each viewer has a filter of its own', async () => {
    let ticks = 0;
    const busy: Clock = { now: () => time, monotonic: () => (ticks += 1) };
    const { watch, store, publish, events } = await open(createScriptedStore(), { clock: busy });
    for (let n = 0; n < 300; n++) await watch(null, undefined, { zone: `z${n}`, minSeverity: null });
    await publish(store.append().offset);
    let turnsTaken = 0;
    while (events.fanout.mock.calls.length === 0) {
      await turn();
      turnsTaken += 1;
    }
    expect(turnsTaken).toBeGreaterThan(5);
  });
});

describe('watermark', () => {
  it('comes at once for who has caught up after a break, when the store was read up to there; not for a fresh viewer', async () => {
    const { watch, store, hub } = await open();
    const fresh = await watch();
    store.append();
    store.append();
    await hub.refresh();
    const epoch = String(fresh.messages()[0]?.['epoch']);
    const behind = await watch({ epoch, offset: 0 });
    const abreast = await watch({ epoch, offset: 2 });
    const later = await watch();
    await turns();
    const kinds = (sink: ScriptedSink): unknown[] => sink.messages().map(({ type, offset }) => [type, offset]);
    expect(kinds(behind).slice(1)).toEqual([
      ['alert', 1],
      ['alert', 2],
      ['watermark', 2],
    ]);
    expect(kinds(abreast).slice(1)).toEqual([['watermark', 2]]);
    expect(kinds(later).slice(1)).toEqual([]);
  });

  const marks = (sink: ScriptedSink): SentMessage[] =>
    sink.messages().filter((message) => message.type === 'watermark');

  it('comes at its time, with the head and the time of its reading, after everything up to it', async () => {
    const { watch, store, hub } = await open();
    const sink = await watch();
    time += 10_000;
    store.append();
    await hub.refresh();
    await turns();
    expect(sink.messages().slice(1)).toEqual([
      { type: 'alert', offset: 1, data: { n: 1 } },
      { type: 'watermark', offset: 1, at: time },
    ]);
    await hub.refresh();
    await turns();
    expect(marks(sink)).toHaveLength(1);
  });

  it('does not come while the store does not answer', async () => {
    const { watch, store, hub, events } = await open();
    const sink = await watch();
    store.away = true;
    time += 20_000;
    expect(await hub.refresh()).toBe(false);
    await turns();
    expect(marks(sink)).toEqual([]);
    expect(events.failure).toHaveBeenCalledWith('store', expect.any(Error));
    store.away = false;
    await hub.refresh();
    await turns();
    expect(marks(sink)).toEqual([{ type: 'watermark', offset: 0, at: time }]);
  });
});

describe('a store that is away', () => {
  it('does not stop what comes over the bus, and refuses viewers only where it is needed', async () => {
    const { watch, store, hub, publish } = await open(filled(2));
    const sink = await watch();
    store.away = true;
    store.append();
    await publish(3);
    await turns();
    expect(offsets(sink)).toEqual([3]);
    await watch();
    await watch({ epoch: 'e1', offset: 1 });
    expect(await hub.plan({ epoch: 'e1', offset: 9 })).toMatchObject({ code: 'store-unavailable' });
  });

  it('refuses everybody before the channel is known, then recovers by itself', async () => {
    const store = filled(2);
    store.away = true;
    const { hub } = await open(store);
    expect(hub.ready()).toBe(false);
    expect(await hub.plan(null)).toMatchObject({ code: 'store-unavailable' });
    store.away = false;
    expect(await hub.plan(null)).toMatchObject({ kind: 'fresh' });
    expect(hub.ready()).toBe(true);
  });
});

describe('history that begins anew', () => {
  it.each([
    ['a new epoch', (store: ScriptedStore) => void (store.epoch = 'e2')],
    ['a head that went back', (store: ScriptedStore) => void store.rows.pop()],
  ])('moves every viewer with 1012 after %s, and goes on with the new history', async (_name, change) => {
    const { watch, store, hub, events } = await open(filled(4));
    const sink = await watch();
    change(store);
    await hub.refresh();
    expect(sink.closed).toMatchObject({ code: 1012 });
    expect(sink.messages().at(-1)).toMatchObject({ type: 'moving' });
    expect(events.restarted).toHaveBeenCalledTimes(1);
    const next = await watch();
    store.append();
    await hub.refresh();
    await turns();
    expect(first(next)).toMatchObject({ epoch: store.epoch });
    expect(offsets(next)).toEqual([store.rows.at(-1)?.offset]);
  });
});

describe('any interleaving', () => {
  type Step =
    | { kind: 'commit'; publish: 'yes' | 'no' | 'twice' | 'later' }
    | { kind: 'late' }
    | { kind: 'watch'; stuck: boolean }
    | { kind: 'resume'; back: number; stuck: boolean }
    | { kind: 'drain' }
    | { kind: 'poll' }
    | { kind: 'store'; away: boolean }
    | { kind: 'turn' };
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('commit' as const),
          publish: fc.constantFrom('yes', 'no', 'twice', 'later'),
        }),
      },
      { weight: 2, arbitrary: fc.constant({ kind: 'late' as const }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('watch' as const), stuck: fc.boolean() }) },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant('resume' as const), back: fc.nat(40), stuck: fc.boolean() }),
      },
      { weight: 2, arbitrary: fc.constant({ kind: 'drain' as const }) },
      { weight: 2, arbitrary: fc.constant({ kind: 'poll' as const }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('store' as const), away: fc.boolean() }) },
      { weight: 4, arbitrary: fc.constant({ kind: 'turn' as const }) },
    ) as fc.Arbitrary<Step>,
    { minLength: 5, maxLength: 90 },
  );

  it('gives every viewer exactly the offsets after its start, in order, once', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.constantFrom(2, 7, 500),
        fc.constantFrom(40, 300, 65_536),
        async (list, ringMessages, socketBytes) => {
          const queue = { socketBytes, messages: 1000, bytes: 1_000_000 };
          const { watch, store, hub, publish } = await open(filled(5), { ringMessages, queue });
          const sinks: ScriptedSink[] = [];
          const late: number[] = [];
          const work: Promise<unknown>[] = [];
          const join = (resume: { epoch: string; offset: number } | null, stuck: boolean): void => {
            work.push(
              watch(resume, createScriptedSink(stuck)).then(
                (sink) => sinks.push(sink),
                () => undefined,
              ),
            );
          };
          for (const step of list) {
            if (step.kind === 'commit') {
              const { offset } = store.append({ body: `{"pad":"${'x'.repeat(20)}"}` });
              if (step.publish === 'later') late.push(offset);
              if (step.publish === 'yes' || step.publish === 'twice') work.push(publish(offset));
              if (step.publish === 'twice') work.push(publish(offset));
            } else if (step.kind === 'late') work.push(...late.splice(0).reverse().map(publish));
            else if (step.kind === 'watch') join(null, step.stuck);
            else if (step.kind === 'resume')
              join({ epoch: 'e1', offset: Math.max(0, (store.rows.at(-1)?.offset ?? 0) - step.back) }, step.stuck);
            else if (step.kind === 'drain') for (const sink of sinks) sink.drain();
            else if (step.kind === 'poll') work.push(hub.refresh());
            else if (step.kind === 'store') store.away = step.away;
            else await turn();
          }
          store.away = false;
          await Promise.all(work);
          await hub.refresh();
          const head = store.rows.at(-1)?.offset ?? 0;
          for (let n = 0; n < 60; n++) {
            for (const sink of sinks) {
              sink.stuck = false;
              sink.drain();
            }
            await turns(3);
          }
          for (const sink of sinks) {
            const start = first(sink)?.offset ?? -1;
            const got = offsets(sink);
            // A viewer whose missed messages could not be read was closed with 1013: it has a part of them, in order.
            if (sink.closed === null) expect(got).toEqual(range(start + 1, head));
            else expect(got).toEqual(range(start + 1, start + got.length));
            expect([null, 1013]).toContain(sink.closed?.code ?? null);
          }
          await hub.stop();
        },
      ),
      { numRuns: 150 },
    );
  });
});
