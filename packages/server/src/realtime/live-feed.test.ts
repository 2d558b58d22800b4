import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createMemoryPubSub } from '../bus/memory/pubsub.ts';
import type { PublishSubscribe } from '../bus/ports/bus.ts';
import type { LiveReading } from '../store/ports/live.ts';
import { device } from './live-device.suite.ts';
import { createLiveFeed, deviceOf, type LiveFeed } from './live-feed.ts';
import { createLiveState, frameText } from './live-state.ts';
import { encodeLive } from './live-wire.ts';

const WINDOW = 30_000;
const clock = { now: () => Date.now(), monotonic: () => Date.now() };

/** What two instances have between them. */
interface Ground {
  readonly pubsub: PublishSubscribe;
  readonly payloads: string[];
  rows: LiveReading[];
  /** `since` of each read. */
  readonly reads: number[];
  storeAway: boolean;
  /** What is published is lost without a word; or refused. */
  deaf: boolean;
  refuses: boolean;
  healthy: boolean;
}

let ground: Ground;
let feeds: LiveFeed[];
const dropped = vi.fn();
const failures = vi.fn();

beforeEach(() => {
  vi.useFakeTimers({ now: 1_700_000_000_000 });
  const memory = createMemoryPubSub(clock, () => undefined);
  const payloads: string[] = [];
  ground = {
    payloads,
    pubsub: {
      subscribe: (topic, listener) => memory.subscribe(topic, listener),
      async publish(topic, payload) {
        if (ground.refuses) throw new Error('bus-unavailable');
        payloads.push(payload);
        if (!ground.deaf) await memory.publish(topic, payload);
      },
    },
    rows: [],
    reads: [],
    ...{ storeAway: false, deaf: false, refuses: false, healthy: true },
  };
  feeds = [];
  dropped.mockClear();
  failures.mockClear();
});
afterEach(async () => {
  ground.refuses = false;
  await Promise.all(feeds.map((feed) => feed.stop()));
  vi.useRealTimers();
});

async function open(instance: string, shared = true): Promise<LiveFeed> {
  const feed = createLiveFeed({
    state: createLiveState({ clock, windowMs: WINDOW, most: 10_000 }),
    pubsub: ground.pubsub,
    bus: { shared, healthy: () => ground.healthy },
    instance,
    store: {
      async newest(since) {
        ground.reads.push(since);
        if (ground.storeAway) throw new Error('store-unavailable');
        return ground.rows.filter(({ receivedAt }) => receivedAt > since);
      },
    },
    ...{ clock, windowMs: WINDOW, most: 10_000, onDropped: dropped, onFailure: failures },
  });
  feeds.push(feed);
  await feed.start();
  return feed;
}

const shown = (feed: LiveFeed): string[] =>
  [...feed.active().values()].map(({ frame, heardAt }) => `${heardAt} ${frameText(frame)}`).toSorted();
const row = (deviceId: string, receivedAt: number, cpu = 1): LiveReading => ({
  ...{ deviceId, receivedAt, at: receivedAt },
  fields: { cpu_percent: cpu, mem_percent: 2, disk_percent: 3, gpu_percent: null },
});
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe('the live board', () => {
  it('shows what is heard here at once, and the other instance what was gathered, in one payload', async () => {
    const [one, other] = [await open('i1'), await open('i2')];
    const now = Date.now();
    for (let n = 0; n < 100; n++) one.heard(device(`h${n}`, now, n));
    expect([one.size(), other.size(), one.has('h7')]).toEqual([100, 0, true]);
    await pass(10);
    expect(shown(other)).toEqual(shown(one));
    expect(ground.payloads).toHaveLength(1);
    for (let n = 0; n < 5; n++) one.heard(device('h1', now + n, 50 + n));
    await pass(10);
    expect(ground.payloads).toHaveLength(2);
    expect(other.active().get('h1')?.frame.cpu_percent).toBe(54);
  });

  it('sends no more than fits one payload, and one payload at a time', async () => {
    const [one, other] = [await open('i1'), await open('i2')];
    for (let n = 0; n < 4100; n++) one.heard(device(`h${n}`, Date.now()));
    await pass(10);
    expect(ground.payloads.length).toBe(3);
    expect(other.size()).toBe(4100);
  });

  it('says nothing on a bus that nobody shares', async () => {
    const one = await open('i1', false);
    one.heard(device('a', Date.now()));
    await pass(10_000);
    expect([one.size(), ground.payloads]).toEqual([1, []]);
  });

  it('reads the store at the start and a little longer, then leaves it alone', async () => {
    ground.rows = [row('a', Date.now() - 1000)];
    const one = await open('i1');
    expect([one.ready(), one.has('a'), ground.reads]).toEqual([true, true, [Date.now() - WINDOW]]);
    ground.rows.push(row('late', Date.now() - 500));
    await pass(2000);
    expect(one.has('late')).toBe(true);
    await pass(5000);
    const reads = ground.reads.length;
    expect(reads).toBeLessThanOrEqual(4);
    await pass(20_000);
    expect(ground.reads).toHaveLength(reads);
  });

  it('is not ready before the store has told, and tries until it does', async () => {
    ground.storeAway = true;
    ground.rows = [row('a', Date.now())];
    const one = await open('i1');
    expect([one.ready(), one.fedAt()]).toEqual([false, null]);
    await pass(10_000);
    expect(one.ready()).toBe(false);
    expect(failures).toHaveBeenCalledWith('store', expect.any(Error));
    ground.storeAway = false;
    await pass(1000);
    expect([one.ready(), one.has('a'), one.fedAt()]).toEqual([true, true, Date.now()]);
  });

  it('reads the store once a second while the bus is unhealthy, at first the whole window, and is fed as of the last read', async () => {
    const one = await open('i1');
    await pass(10_000);
    ground.reads.length = 0;
    ground.healthy = false;
    expect(one.fedAt()).toBe(null);
    await pass(1000);
    expect(ground.reads).toEqual([Date.now() - WINDOW]);
    ground.rows = [row('a', Date.now())];
    await pass(5000);
    expect(one.has('a')).toBe(true);
    expect(ground.reads).toHaveLength(6);
    expect(ground.reads.at(-1)).toBe(Date.now() - 11_000);
    expect(one.fedAt()).toBe(Date.now());
    ground.storeAway = true;
    await pass(3000);
    expect(one.fedAt()).toBe(null);
    ground.healthy = true;
    ground.storeAway = false;
    await pass(6000);
    expect(one.fedAt()).toBe(Date.now());
    const reads = ground.reads.length;
    await pass(10_000);
    expect(ground.reads).toHaveLength(reads);
  });

  it('tells what the bus did not take as soon as it does, the newest of each device', async () => {
    const [one, other] = [await open('i1'), await open('i2')];
    ground.refuses = true;
    for (let n = 0; n < 3; n++) {
      one.heard(device('a', Date.now(), n));
      one.heard(device('b', Date.now(), n));
      await pass(300);
    }
    expect([other.size(), failures.mock.calls.length > 1]).toEqual([0, true]);
    ground.refuses = false;
    await pass(600);
    expect(shown(other)).toEqual(shown(one));
    ground.refuses = true;
    one.heard(device('c', Date.now()));
    await pass(WINDOW);
    ground.payloads.length = 0;
    ground.refuses = false;
    await pass(1000);
    expect(ground.payloads.join()).not.toContain('"c"');
    one.heard(device('d', Date.now()));
    await pass(10);
    expect(other.has('d')).toBe(true);
  });

  it('knows by the numbers that it missed something, also when nothing follows, and reads the store', async () => {
    const [one, other] = [await open('i1'), await open('i2')];
    one.heard(device('a', Date.now(), 1));
    await pass(10_000);
    const reads = ground.reads.length;
    ground.deaf = true;
    one.heard(device('a', Date.now(), 2));
    await pass(10);
    ground.deaf = false;
    ground.rows = [row('a', Date.now(), 2)];
    expect(other.active().get('a')?.frame.cpu_percent).toBe(1);
    await pass(4000);
    expect(ground.reads.length).toBeGreaterThan(reads);
    expect(shown(other).join()).toContain('"cpu_percent":2');
  });

  it('drops and counts what is no payload of this version, and what is no frame in the store; its own echo is not read', async () => {
    const one = await open('i1');
    await ground.pubsub.publish('live', 'live-9 i2 1 []');
    await ground.pubsub.publish('live', 'garbage');
    await pass(1);
    expect(dropped).toHaveBeenCalledTimes(2);
    await ground.pubsub.publish('live', `${encodeLive('i1', 1, [])}garbage`);
    await pass(1);
    expect(dropped).toHaveBeenCalledTimes(2);
    ground.rows = [{ ...row('a', Date.now()), fields: { cpu_percent: 'many' } }];
    await pass(1000);
    expect([dropped.mock.calls.length > 2, one.size()]).toEqual([true, 0]);
  });

  it('tells the rest before it ends', async () => {
    const [one, other] = [await open('i1'), await open('i2')];
    one.heard(device('a', Date.now()));
    await one.stop();
    await pass(1);
    expect(other.has('a')).toBe(true);
  });
});

describe('a reading of the store', () => {
  it('is the frame that was sent, with absent optionals as null', () => {
    expect(deviceOf(row('a', 5500))).toEqual({
      heardAt: 5500,
      frame: {
        ...{ device_id: 'a', timestamp: 5, cpu_percent: 1, mem_percent: 2, disk_percent: 3 },
        ...{ gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null },
      },
    });
    expect(deviceOf({ ...row('a', 5), fields: {} })).toBe(null);
  });
});
