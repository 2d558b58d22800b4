/** What a hub counts, beside what its viewers' sinks have really got. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { severityRank } from '@tocsin/protocol/alert';
import { createMemoryBus } from '../bus/memory/bus.ts';
import type { Clock } from '../lib/clock.ts';
import { createChannelPublisher } from './channel.ts';
import { createDeliveryAccount } from './delivery.ts';
import { type Filter, passes } from './entry.ts';
import { createHub, type Hub, type ViewerHandle } from './hub.ts';
import type { QueueLimits } from './queue.ts';
import {
  createScriptedSink,
  createScriptedStore,
  type ScriptedSink,
  type ScriptedStore,
} from './scripted-sink.suite.ts';

const ALL: Filter = { zone: null, minSeverity: null };
const FILTERS: readonly Filter[] = [ALL, { zone: 'z1', minSeverity: null }, { zone: null, minSeverity: 'severe' }];
const turns = async (count: number): Promise<void> => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setImmediate(resolve));
};
const still: Clock = { now: () => 1000, monotonic: () => 1000 };

interface Watcher {
  readonly filter: Filter;
  readonly sink: ScriptedSink;
  readonly handle: ViewerHandle;
  readonly start: number;
  readonly joinedAt: number;
  /** The channel's offset when it was closed. */
  closedAt: number;
  receipt: number;
}

async function open(queue?: QueueLimits, clock: Clock = still) {
  const bus = createMemoryBus({ clock });
  await bus.close();
  const store = createScriptedStore();
  const deliveries = createDeliveryAccount({ clock });
  const parts = { channel: 'alerts', store, pubsub: bus.pubsub, clock, watermarkSeconds: 10, pollMs: 3_600_000 };
  const hub = createHub({ ...parts, ringMessages: 7, deliveries, ...(queue === undefined ? {} : { queue }) });
  await hub.start();
  const publisher = createChannelPublisher({ pubsub: bus.pubsub });
  return { store, hub, deliveries, publisher };
}

async function join(hub: Hub, back: number | null, filter: Filter, stuck: boolean): Promise<Watcher | null> {
  const plan = await hub.plan(back === null ? null : { epoch: 'e1', offset: Math.max(0, hub.offset() - back) });
  if ('code' in plan) return null;
  const sink = createScriptedSink(stuck);
  const joinedAt = hub.offset();
  const handle = hub.attach(sink, plan, filter, { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 });
  const start = Number(sink.messages()[0]?.offset);
  return { filter, sink, handle, start, joinedAt, closedAt: Number.POSITIVE_INFINITY, receipt: 0 };
}

const got = ({ sink }: Watcher, offset: number): boolean =>
  sink.messages().some((sent) => sent.type === 'alert' && sent.offset === offset);

/** What must have been counted, one viewer and message after the other. */
function naive(store: ScriptedStore, watchers: readonly Watcher[]): Record<string, number>[] {
  const rows = store.rows.map((row) => {
    const mine = watchers.filter(({ filter }) => passes(filter, row));
    const { offset } = row;
    return {
      offset,
      connected: mine.filter(({ joinedAt, closedAt }) => joinedAt < offset && offset <= closedAt).length,
      sent: mine.filter((watcher) => watcher.joinedAt < offset && got(watcher, offset)).length,
      resent: mine.filter((watcher) => watcher.joinedAt >= offset && got(watcher, offset)).length,
      received: mine.filter(({ start, receipt }) => start < offset && offset <= receipt).length,
    };
  });
  return rows.filter(({ connected, sent, resent, received }) => connected + sent + resent + received > 0);
}

type Step =
  | { kind: 'commit'; zoneId: string | null; severity: number; publish: boolean }
  | { kind: 'join'; back: number | null; filter: number; stuck: boolean }
  | { kind: 'receipt'; who: number; back: number }
  | { kind: 'close'; who: number }
  | { kind: 'poll' }
  | { kind: 'drain' }
  | { kind: 'turn' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('commit' as const),
      zoneId: fc.constantFrom('z1', null),
      severity: fc.constantFrom(severityRank('minor'), severityRank('extreme')),
      publish: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('join' as const),
      back: fc.option(fc.nat(20)),
      filter: fc.nat(FILTERS.length - 1),
      stuck: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('receipt' as const), who: fc.nat(9), back: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const), who: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'poll' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'drain' as const }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'turn' as const }) },
);

function release({ sink }: Watcher): void {
  sink.stuck = false;
  sink.drain();
}

it('counts what a model that looks at every viewer and every message counts', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const { store, hub, deliveries, publisher } = await open({ socketBytes: 150, messages: 1000, bytes: 1_000_000 });
      const watchers: Watcher[] = [];
      const work: Promise<unknown>[] = [];
      for (const next of steps) {
        const watcher = next.kind === 'receipt' || next.kind === 'close' ? watchers[next.who] : undefined;
        if (next.kind === 'commit') {
          const row = store.append({ zoneId: next.zoneId, severity: next.severity });
          if (next.publish) work.push(publisher.publish([row]));
        } else if (next.kind === 'join') {
          const joined = await join(hub, next.back, FILTERS[next.filter] ?? ALL, next.stuck);
          if (joined !== null) watchers.push(joined);
        } else if (next.kind === 'receipt' && watcher !== undefined) {
          const offset = Math.max(0, watcher.handle.offset() - next.back);
          watcher.handle.received(offset);
          watcher.receipt = Math.max(watcher.receipt, offset);
        } else if (next.kind === 'close' && watcher !== undefined) {
          // What waits for a viewer that is closed counts as handed over; its sink would not show it.
          release(watcher);
          watcher.closedAt = Math.min(watcher.closedAt, hub.offset());
          watcher.handle.close('end');
        } else if (next.kind === 'poll') work.push(hub.refresh());
        else if (next.kind === 'drain') for (const each of watchers) release(each);
        else if (next.kind === 'turn') await turns(1);
      }
      await Promise.all(work);
      await hub.refresh();
      for (let n = 0; n < 30; n++) {
        for (const each of watchers) release(each);
        await turns(3);
      }
      const rows = deliveries.take(1000).sort((a, b) => a.offset - b.offset);
      const counted = rows.map(({ offset, connected, sent, resent, received }) => {
        return { offset, connected, sent, resent, received };
      });
      expect(counted).toEqual(naive(store, watchers));
      for (const row of rows) {
        expect(row.send.counts.reduce((a, b) => a + b, 0)).toBe(row.sent);
        expect(row.receive.counts.reduce((a, b) => a + b, 0)).toBe(row.received);
      }
      await hub.stop();
    }),
    { numRuns: 200 },
  );
});

it('counts a viewer that is too slow up to what was queued for it', async () => {
  const { store, hub, deliveries } = await open({ socketBytes: 10, messages: 2, bytes: 1_000_000 });
  const slow = await join(hub, null, ALL, true);
  const quick = await join(hub, null, ALL, false);
  for (let n = 0; n < 5; n++) {
    store.append();
    await hub.refresh();
    await turns(3);
  }
  expect([slow?.sink.closed?.code, quick?.sink.closed]).toEqual([4008, null]);
  const rows = deliveries.take(10).sort((a, b) => a.offset - b.offset);
  expect(rows.map(({ connected, sent }) => [connected, sent])).toEqual([
    [2, 2],
    [2, 2],
    [2, 1],
    [1, 1],
    [1, 1],
  ]);
  await hub.stop();
});

it('tells of each slice of a long fan-out when it was', async () => {
  let time = 1000;
  const passing: Clock = { now: () => time, monotonic: () => ++time };
  const { store, hub, deliveries } = await open(undefined, passing);
  for (let n = 0; n < 1000; n++) await join(hub, null, ALL, false);
  store.append();
  await hub.refresh();
  await turns(30);
  const [row] = deliveries.take(10);
  expect(row).toMatchObject({ connected: 1000, sent: 1000 });
  // The clock goes on by 1 ms at each look, one for every 32 viewers; a slice ends as soon as it has taken its time.
  const { firstSentAt, lastSentAt } = row ?? {};
  expect(Number(lastSentAt) - Number(firstSentAt)).toBeGreaterThan(20);
  expect(row?.send.counts.reduce((a, b) => a + b, 0)).toBe(1000);
  await hub.stop();
});

it('takes a receipt for no more than was queued for its viewer', async () => {
  const { store, hub, deliveries } = await open();
  const watcher = await join(hub, null, ALL, false);
  watcher?.handle.received(1_000_000);
  store.append();
  await hub.refresh();
  await turns(3);
  watcher?.handle.received(1);
  watcher?.handle.received(1);
  watcher?.handle.received(0);
  expect(deliveries.take(10)).toMatchObject([{ offset: 1, received: 1 }]);
  await hub.stop();
});
