import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ACKNOWLEDGE,
  type BrokerUnderTest,
  closing,
  KEY,
  movedClock,
  outcome,
  READING_KEY,
  startBroker,
  tokenOf,
} from './embedded-system.suite.ts';
import { createMemoryBus } from '../../bus/memory/bus.ts';
import type { MqttVerdict } from './message.ts';

const FRAMES = 'devices/h1/metrics';
let system: BrokerUnderTest;

beforeEach(async () => {
  system = await startBroker();
});
afterEach(() => system.stop());

const settled = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 5000, interval: 5 });

describe('a connection to the embedded broker', () => {
  test.each([
    ['an API key with the scope, under any name', 'whoever', KEY, 'connect'],
    ['an API key without the scope', 'whoever', READING_KEY, 'code 5'],
    ['a password that is nothing', 'h1', 'nonsense-nonsense', 'code 4'],
    ['a token of the device of that name', 'h1', tokenOf('h1'), 'connect'],
    ['a token of another device', 'h1', tokenOf('h2'), 'code 5'],
    ['a token that has expired', 'late', tokenOf('late'), 'code 4'],
  ])('with %s', async (_what, username, password, expected) => {
    expect(await outcome(system.client({ username, password }))).toBe(expected);
  });

  test('without a password is refused', async () => {
    const client = system.client({ username: 'x', password: '' });
    expect(await outcome(client)).toBe('code 4');
  });

  test('is refused as unavailable while the store is away, and counts against nobody', async () => {
    system.away = true;
    for (let round = 0; round < 20; round++) expect(await outcome(system.client({ clientId: 'same' }))).toBe('code 3');
    system.away = false;
    expect(await outcome(system.client({ clientId: 'same' }))).toBe('connect');
  });

  test('of a device that may not send is refused, and ends once it may not', async () => {
    const client = system.client({ username: 'h1', password: tokenOf('h1') });
    expect(await outcome(client)).toBe('connect');
    const closed = closing(client);
    system.gone.add('h1');
    await closed;
    expect(await outcome(system.client({ username: 'h1', password: tokenOf('h1') }))).toBe('code 5');
    expect(system.counts.get('ended credential')).toBe(1);
  });

  test('ends with its API key, its session and its token', async () => {
    const byKey = system.client();
    const bySession = system.client({ username: 'h1', password: tokenOf('h1') });
    const heard = system.client({ username: 'h2', password: tokenOf('h2') });
    await Promise.all([outcome(byKey), outcome(bySession), outcome(heard)]);
    await settled(() => expect(system.broker.connections()).toBe(3));
    system.gone.add(KEY).add('session-h1');
    system.endSession('session-h2');
    await Promise.all([closing(byKey), closing(bySession), closing(heard)]);
    system.tokenEndsAt = Date.now() + 300;
    const byTime = system.client({ username: 'h3', password: tokenOf('h3') });
    expect(await outcome(byTime)).toBe('connect');
    await closing(byTime);
    expect(system.counts.get('ended credential')).toBe(4);
  });

  test('takes the place of an older one of the same holder and client id, and of nobody else’s', async () => {
    const old = system.client({ clientId: 'same' });
    const other = system.client({ clientId: 'same', username: 'h1', password: tokenOf('h1') });
    await Promise.all([outcome(old), outcome(other)]);
    const closed = closing(old);
    expect(await outcome(system.client({ clientId: 'same' }))).toBe('connect');
    await closed;
    expect(other.connected).toBe(true);
    await settled(() => expect(system.broker.connections()).toBe(2));
  });

  test('has no session from before', async () => {
    const client = system.client({ clientId: 'kept', clean: false });
    const present = await new Promise((resolve) =>
      client.once('connect', ({ sessionPresent }) => resolve(sessionPresent)),
    );
    expect(present).toBe(false);
  });
});

describe('a message', () => {
  test('is acknowledged after its verdict and not before', async () => {
    let decide: (verdict: MqttVerdict) => void = () => undefined;
    system.verdict = () => new Promise((resolve) => (decide = resolve));
    const client = system.client();
    await outcome(client);
    let acknowledged = false;
    const published = client.publishAsync(FRAMES, '{}', { qos: 1 }).then(() => (acknowledged = true));
    await settled(() => expect(decide.length).toBe(1));
    await client.subscribeAsync('nothing').catch(() => undefined);
    expect(acknowledged).toBe(false);
    decide(ACKNOWLEDGE);
    await published;
    expect(system.taken).toMatchObject([{ topic: FRAMES, traceparent: null }]);
    expect(system.taken[0]?.payload.toString()).toBe('{}');
  });

  test.each([0, 1, 2] as const)('of QoS %i is taken once', async (qos) => {
    const client = system.client();
    await outcome(client);
    for (let index = 0; index < 100; index++) await client.publishAsync(FRAMES, String(index), { qos });
    await settled(() => expect(system.taken).toHaveLength(100));
    expect(system.taken.map(({ payload }) => Number(payload))).toEqual([...Array(100).keys()]);
  });

  test('that cannot be stored yet is held and tried again, and none of its device overtakes it', async () => {
    let refusals = 3;
    system.verdict = ({ payload }) =>
      payload.toString() === '0' && refusals-- > 0 ? { kind: 'later', retryAfterMs: 50 } : ACKNOWLEDGE;
    const client = system.client();
    await outcome(client);
    await Promise.all(Array.from({ length: 40 }, (_, index) => client.publishAsync(FRAMES, String(index), { qos: 1 })));
    expect(system.taken.map(({ payload }) => Number(payload))).toEqual([...Array(40).keys()]);
    expect(refusals).toBe(-1);
  });

  test('on a topic that is none of ours, or another device’s, is acknowledged and dropped; the connection stays', async () => {
    const client = system.client({ username: 'h1', password: tokenOf('h1') });
    await outcome(client);
    for (const qos of [0, 1, 2] as const) {
      await client.publishAsync('devices/h2/metrics', '{}', { qos });
      await client.publishAsync('else/where', '{}', { qos, retain: true });
      await client.publishAsync('$SYS/broker', '{}', { qos });
    }
    await client.publishAsync(FRAMES, '{}', { qos: 1 });
    expect(system.taken).toHaveLength(1);
    expect(system.counts.get('rejected device-mismatch')).toBe(3);
    expect(system.counts.get('rejected not-found')).toBe(6);
  });

  test('that is too large is acknowledged and dropped without being kept', async () => {
    const client = system.client();
    await outcome(client);
    await client.publishAsync(FRAMES, Buffer.alloc(300_000), { qos: 1 });
    await client.publishAsync(FRAMES, Buffer.alloc(262_144), { qos: 1 });
    expect(system.taken.map(({ payload }) => payload.length)).toEqual([262_144]);
    expect(system.counts.get('rejected body-too-large')).toBe(1);
  });

  test('left for the end is never published', async () => {
    const client = system.client({ will: { topic: FRAMES, payload: Buffer.from('gone'), qos: 1, retain: true } });
    await outcome(client);
    client.stream.destroy();
    await settled(() => expect(system.broker.connections()).toBe(0));
    expect(system.taken).toEqual([]);
  });

  test('is heard by nobody: every subscription is refused, and the connection stays', async () => {
    const client = system.client({ username: 'h1', password: tokenOf('h1') });
    await outcome(client);
    const heard: string[] = [];
    client.on('message', (topic) => heard.push(topic));
    const granted = await new Promise<number[]>((resolve) => {
      client.on('packetreceive', (packet) => packet.cmd === 'suback' && resolve(packet.granted as number[]));
      client.subscribe(['#', 'devices/h1/#', 'devices/h2/metrics', '$SYS/#'], () => undefined);
    });
    expect(granted).toEqual([0x80, 0x80, 0x80, 0x80]);
    await client.publishAsync(FRAMES, '{}', { qos: 1, retain: true });
    await client.unsubscribeAsync('#');
    expect(heard).toEqual([]);
    expect(client.connected).toBe(true);
  });
});

describe('the end of the broker', () => {
  test('takes nothing new, lets what is on its way end with its acknowledgement, then lets everybody go', async () => {
    let decide: (verdict: MqttVerdict) => void = () => undefined;
    system.verdict = () => new Promise((resolve) => (decide = resolve));
    const client = system.client();
    await outcome(client);
    const published = client.publishAsync(FRAMES, '1', { qos: 1 });
    await settled(() => expect(decide.length).toBe(1));
    const closed = closing(client);
    const drained = system.broker.drain(5000);
    expect(await outcome(system.client())).not.toBe('connect');
    decide(ACKNOWLEDGE);
    await Promise.all([published, closed, drained]);
    expect(system.broker.connections()).toBe(0);
  });

  test('does not wait for what cannot be stored', async () => {
    system.verdict = () => ({ kind: 'later', retryAfterMs: 5000 });
    const client = system.client();
    await outcome(client);
    let acknowledged = false;
    client.publish(FRAMES, '1', { qos: 1 }, (error) => (acknowledged = error === undefined || error === null));
    await settled(() => expect(system.counts.get('connections')).toBe(1));
    await system.broker.drain(60_000);
    expect(acknowledged).toBe(false);
  });
});

describe('two brokers of an installation', () => {
  test('let a client be at one of them only, and ban together', async () => {
    const clock = movedClock();
    const bus = createMemoryBus({ clock, instance: 'shared' });
    const [one, other] = await Promise.all([startBroker({ bus, clock }), startBroker({ bus, clock })]);
    try {
      const old = one.client({ clientId: 'same' });
      await outcome(old);
      await settled(() => expect(one.broker.connections()).toBe(1));
      const closed = closing(old);
      expect(await outcome(other.client({ clientId: 'same' }))).toBe('connect');
      await closed;
      // Two connects are counted already.
      for (let round = 2; round < 15; round++) {
        const client = (round % 2 === 0 ? one : other).client({ clientId: 'same' });
        expect(await outcome(client)).toBe('connect');
      }
      expect(await outcome(one.client({ clientId: 'same' }))).toBe('code 3');
      expect(await outcome(other.client({ clientId: 'same' }))).toBe('code 3');
      expect((one.counts.get('banned id') ?? 0) + (other.counts.get('banned id') ?? 0)).toBe(1);
    } finally {
      await Promise.all([one.stop(), other.stop()]);
      await bus.close();
    }
  });
});
