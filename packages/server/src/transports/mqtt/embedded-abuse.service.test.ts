import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  ACKNOWLEDGE,
  type BrokerUnderTest,
  connectPacket,
  KEY,
  type MovedClock,
  movedClock,
  packet,
  publishPacket,
  type RawClient,
  startBroker,
} from './embedded-system.suite.ts';

const CONNACK_FINE = Buffer.from([0x20, 2, 0, 0]);
let system: BrokerUnderTest;
let clock: MovedClock;

beforeEach(async () => {
  clock = movedClock();
  system = await startBroker({ clock });
});
afterEach(() => system.stop());

const settled = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 5000, interval: 5 });

async function connected(id = 'raw'): Promise<RawClient> {
  const client = system.raw();
  client.send(connectPacket(id));
  expect(await client.read(4)).toEqual(CONNACK_FINE);
  return client;
}

describe('bytes that are sent to the embedded broker', () => {
  test('may come one by one', async () => {
    const client = system.raw();
    const bytes = Buffer.concat([connectPacket('slow'), publishPacket('devices/h1/metrics', '{"a":1}')]);
    for (const byte of bytes) {
      client.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await client.read(8)).toEqual(Buffer.concat([CONNACK_FINE, Buffer.from([0x40, 2, 0, 1])]));
    expect(system.taken).toHaveLength(1);
  });

  test('may come all at once, before CONNACK, with DISCONNECT behind them', async () => {
    const client = system.raw();
    const frames = Array.from({ length: 100 }, (_, index) =>
      publishPacket(`devices/h${index % 7}/metrics`, String(index), { qos: 0 }),
    );
    client.send(Buffer.concat([connectPacket('quick'), ...frames, Buffer.from([0xe0, 0])]));
    client.socket.end();
    await client.closed;
    expect(system.taken).toHaveLength(100);
  });

  test.each<[string, Buffer]>([
    ['a GET of HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a hello of TLS', Buffer.from([0x16, 3, 1, 0, 5])],
    ['a PUBLISH before CONNECT', publishPacket('devices/h1/metrics', '{}')],
    ['a CONNECT that claims 256 MB', Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])],
    ['a length without an end', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff])],
    [
      'a CONNECT with flags that contradict',
      packet(0x10, Buffer.from([0, 4, 77, 81, 84, 84, 4, 0x42, 0, 9, 0, 1, 65])),
    ],
    ['a CONNECT with the reserved flag', packet(0x10, Buffer.from([0, 4, 77, 81, 84, 84, 4, 0x03, 0, 9, 0, 1, 65]))],
    ['a CONNECT that ends too soon', packet(0x10, Buffer.from([0, 4, 77, 81, 84, 84, 4, 2, 0, 9, 0, 9, 65]))],
    ['a CONNECT with bytes behind it', packet(0x10, Buffer.from([0, 4, 77, 81, 84, 84, 4, 2, 0, 9, 0, 1, 65, 1]))],
    ['another protocol', packet(0x10, Buffer.from([0, 4, 72, 84, 84, 80, 4, 2, 0, 9, 0, 1, 65]))],
  ])('end the connection at once when they are %s', async (_what, bytes) => {
    const client = system.raw();
    client.send(bytes);
    expect(await client.closed).toHaveLength(0);
  });

  test.each([3, 5, 6, 0x84])('of protocol level %i get CONNACK 1', async (level) => {
    const client = system.raw();
    client.send(connectPacket('other', { level }));
    expect(await client.closed).toEqual(Buffer.from([0x20, 2, 0, 1]));
  });

  test.each([
    ['empty without a clean session', '', false],
    ['over its length', 'x'.repeat(129), true],
    ['with control characters', 'a\nb', true],
  ])('get CONNACK 2 when the client id is %s', async (_what, id, clean) => {
    const client = system.raw();
    client.send(connectPacket(id, { clean }));
    expect(await client.closed).toEqual(Buffer.from([0x20, 2, 0, 2]));
  });

  test.each<[string, string, Buffer]>([
    ['a second CONNECT', 'malformed', connectPacket('raw')],
    ['a PUBLISH that claims 256 MB', 'too-large', Buffer.from([0x32, 0xff, 0xff, 0xff, 0x7f, 0, 2, 65, 66])],
    ['a SUBSCRIBE that claims 1 MB', 'too-large', Buffer.from([0x82, 0x80, 0x80, 0x40])],
    ['a PUBLISH of QoS 3', 'malformed', Buffer.from([0x36, 5, 0, 1, 65, 0, 1])],
    ['a PUBLISH with a wildcard', 'malformed', publishPacket('devices/+/metrics', '{}')],
    ['a PUBLISH with an empty topic', 'malformed', publishPacket('', '{}')],
    ['a PUBLISH with the identifier 0', 'malformed', publishPacket('a', '{}', { id: 0 })],
    ['a PUBLISH whose topic ends too late', 'malformed', packet(0x30, Buffer.from([0, 9, 65]))],
    ['a PUBLISH with U+0000 in its topic', 'malformed', publishPacket('devices/h\0/metrics', '{}')],
    ['a PUBLISH whose topic is no UTF-8', 'malformed', packet(0x30, Buffer.from([0, 2, 0xc3, 0x28, 65]))],
    ['a repetition with QoS 0', 'malformed', publishPacket('a', '{}', { qos: 0, flags: 8 })],
    ['an UNSUBSCRIBE with one byte too many', 'malformed', packet(0xa2, Buffer.from([0, 1, 0]))],
    ['an UNSUBSCRIBE of nothing', 'malformed', packet(0xa2, Buffer.from([0, 1]))],
    ['a SUBSCRIBE whose filter ends too late', 'malformed', packet(0x82, Buffer.from([0, 1, 0, 9, 65, 0]))],
    ['a SUBSCRIBE of QoS 3', 'malformed', packet(0x82, Buffer.from([0, 1, 0, 1, 65, 3]))],
    ['a SUBSCRIBE with reserved flags', 'malformed', packet(0x80, Buffer.from([0, 1, 0, 1, 65, 0]))],
    ['a PUBREL without an identifier', 'malformed', packet(0x62, Buffer.alloc(0))],
    ['a PINGREQ with a body', 'malformed', Buffer.from([0xc0, 1, 0])],
    ['a CONNACK', 'malformed', CONNACK_FINE],
    ['an AUTH', 'malformed', Buffer.from([0xf0, 0])],
  ])('end an open connection when they are %s', async (_what, reason, bytes) => {
    const client = await connected();
    client.send(bytes);
    await client.closed;
    expect(system.counts.get(`ended ${reason}`)).toBe(1);
  });

  test('that are a flood of pings end the connection', async () => {
    const client = await connected();
    client.send(Buffer.alloc(20_000, Buffer.from([0xc0, 0])));
    await client.closed;
    expect(system.counts.get('ended flood')).toBe(1);
  });

  test('are not read beyond the window while nothing can be stored, and the connection is cut in the end', async () => {
    system.verdict = () => ({ kind: 'later', retryAfterMs: 50 });
    const asked = new Set<string>();
    const verdict = system.verdict;
    system.verdict = (message) => {
      asked.add(message.topic);
      return verdict(message);
    };
    const client = await connected();
    const flood = Buffer.concat(
      Array.from({ length: 500 }, (_, index) => publishPacket(`devices/h${index}/metrics`, '{}', { id: index + 1 })),
    );
    client.send(flood);
    await settled(() => expect(asked.size).toBe(32));
    clock.move(20_000);
    expect(await client.closed).toHaveLength(0);
    expect(asked.size).toBe(32);
    expect(system.counts.get('ended store')).toBe(1);
  });

  test('of QoS 2 that come again before they are released are taken once', async () => {
    const client = await connected();
    const message = publishPacket('devices/h1/metrics', '1', { qos: 2, id: 7 });
    client.send(message);
    expect(await client.read(4)).toEqual(Buffer.from([0x50, 2, 0, 7]));
    const again = Buffer.from(message);
    again[0] = (again[0] ?? 0) | 8;
    client.send(again);
    expect(await client.read(4)).toEqual(Buffer.from([0x50, 2, 0, 7]));
    client.send(Buffer.from([0x62, 2, 0, 7]));
    expect(await client.read(4)).toEqual(Buffer.from([0x70, 2, 0, 7]));
    client.send(message);
    expect(await client.read(4)).toEqual(Buffer.from([0x50, 2, 0, 7]));
    expect(system.taken).toHaveLength(2);
  });

  test('of QoS 2 may be any number at once, each released after all: nobody is cut for it', async () => {
    const client = await connected();
    const ids = Array.from({ length: 700 }, (_, index) => index + 1);
    const of = (first: number): Buffer => Buffer.concat(ids.map((id) => Buffer.from([first, 2, id >> 8, id & 0xff])));
    client.send(...ids.map((id) => publishPacket(`devices/h${id}/metrics`, '{}', { qos: 2, id })));
    expect(await client.read(2800)).toEqual(of(0x50));
    client.send(of(0x62));
    expect(await client.read(2800)).toEqual(of(0x70));
    expect(system.taken).toHaveLength(700);
    // A release of nothing counts as any other packet.
    client.send(of(0x62));
    await client.closed;
    expect(system.counts.get('ended flood')).toBe(1);
  });

  test('of a topic too deep for the library are dropped, and the connection stays', async () => {
    await system.stop();
    system = await startBroker({ filters: ['fleet/#'] });
    const client = await connected();
    client.send(publishPacket(`fleet${'/a'.repeat(99)}`, '{}', { id: 1 }));
    client.send(publishPacket(`fleet${'/a'.repeat(100)}`, '{}', { id: 2 }));
    expect(await client.read(8)).toEqual(Buffer.from([0x40, 2, 0, 1, 0x40, 2, 0, 2]));
    expect(system.taken).toHaveLength(1);
    expect(system.counts.get('rejected not-found')).toBe(1);
  });
});

describe('the patience of the embedded broker', () => {
  test('with somebody who says nothing, or not all of it, ends after five seconds', async () => {
    const silent = system.raw();
    const half = system.raw();
    half.send(connectPacket('half').subarray(0, 20));
    // Both are there.
    await connected();
    clock.move(5000);
    await Promise.all([silent.closed, half.closed]);
    expect(system.counts.get('refused timeout')).toBe(2);
    expect(system.broker.connections()).toBe(1);
  });

  test('with a connection is one and a half times its keep-alive, and never more than fifteen minutes', async () => {
    const short = system.raw();
    short.send(connectPacket('short', { keepAlive: 10 }));
    const endless = system.raw();
    endless.send(connectPacket('endless', { keepAlive: 0 }));
    await Promise.all([short.read(4), endless.read(4)]);
    await settled(() => expect(system.broker.connections()).toBe(2));
    clock.move(14_000);
    short.send(Buffer.from([0xc0, 0]));
    await short.read(2);
    clock.move(14_000);
    short.send(Buffer.from([0xc0, 0]));
    await short.read(2);
    clock.move(16_000);
    await short.closed;
    expect(system.broker.connections()).toBe(1);
    clock.move(900_000);
    await endless.closed;
    expect(system.counts.get('ended keep-alive')).toBe(2);
  });
});

describe('a client that comes and goes', () => {
  const come = async (id: string, options: Parameters<typeof connectPacket>[1] = {}): Promise<number> => {
    const client = system.raw();
    client.send(connectPacket(id, options));
    const answer = await client.read(4).catch(() => Buffer.from([0, 0, 0, 255]));
    client.send(Buffer.from([0xe0, 0]));
    client.socket.end();
    await client.closed;
    return answer[3] ?? -1;
  };

  test('is banned by its client id for five minutes, and nobody else is', async () => {
    // Its site is there too, so that its address is not the reason.
    const site = await Promise.all(Array.from({ length: 20 }, (_, index) => connected(`host-${index}`)));
    await settled(() => expect(system.broker.connections()).toBe(20));
    const answers: number[] = [];
    for (let round = 0; round < 17; round++) answers.push(await come('flapping'));
    expect(answers).toEqual([...Array<number>(15).fill(0), 3, 3]);
    expect(system.counts.get('banned id')).toBe(1);
    expect(await come('another')).toBe(0);
    clock.move(299_000);
    expect(await come('flapping')).toBe(3);
    clock.move(1001);
    for (const { socket } of site) socket.destroy();
    expect(await come('flapping')).toBe(0);
  });

  test('is banned by its user name and its address when it changes its id', async () => {
    const answers: number[] = [];
    for (let round = 0; round < 22; round++) answers.push(await come(`id-${round}`));
    expect(answers.slice(0, 16)).toEqual(Array<number>(16).fill(0));
    expect(answers.slice(20)).toEqual([255, 255]);
    expect(system.counts.get('banned user')).toBe(1);
    expect(system.counts.get('banned address')).toBe(1);
    expect(system.counts.get('banned id')).toBeUndefined();
  });

  test('is banned by its address when its password is wrong, and bans nobody else’s name', async () => {
    for (let round = 0; round < 16; round++)
      await come(`guess-${round}`, { username: `u${round}`, password: 'wrong-password' });
    expect(await come('good')).toBe(255);
    expect(system.counts.get('banned address')).toBe(1);
    expect([...system.counts.keys()].filter((name) => name.startsWith('banned'))).toEqual(['banned address']);
  });

  test('is not a site of a thousand hosts behind one address that come back at once, twice', async () => {
    await system.stop();
    system = await startBroker({ clock });
    for (let round = 0; round < 3; round++) {
      const hosts = await Promise.all(Array.from({ length: 300 }, (_, index) => connected(`host-${index}`)));
      await settled(() => expect(system.broker.connections()).toBe(300));
      for (const { socket } of hosts) socket.destroy();
      await settled(() => expect(system.broker.connections()).toBe(0));
      clock.move(1000);
    }
    expect(await come('host-1')).toBe(0);
    expect([...system.counts.keys()].filter((name) => name.startsWith('banned'))).toEqual([]);
  });

  test('is not one whom the store kept out, or whom we sent away', async () => {
    system.verdict = () => ACKNOWLEDGE;
    for (let round = 0; round < 20; round++) {
      system.away = true;
      expect(await come(`out-${round}`)).toBe(3);
    }
    system.away = false;
    expect(await come('good', { password: KEY })).toBe(0);
  });

  test('has no address of its own behind a proxy', async () => {
    await system.stop();
    system = await startBroker({ clock, trustedProxies: ['127.0.0.0/8'] });
    for (let round = 0; round < 30; round++)
      expect(await come(`guess-${round}`, { username: `u${round}`, password: 'wrong-password' })).toBe(4);
    expect(await come('good')).toBe(0);
  });
});
