import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { ScriptedViewer, ViewerOptions } from '@tocsin/testkit/viewer';
import { describe, expect, it, vi } from 'vitest';
import { createMemoryBus } from '../../bus/memory/bus.ts';
import { TOKENS_WAITING_MOST } from './connection.ts';
import { clock, HANDSHAKE, pass, person, raw, refusal, start } from './websocket-system.suite.ts';

describe('handshake', () => {
  it('opens for a token in the header or the subprotocol, for our cookie, and once for a ticket', async () => {
    const system = await start({ maxConnectionsPerUser: 10 });
    expect((await system.viewer({ token: 'ann' })).welcome).toMatchObject({
      type: 'welcome',
      channel: 'alerts',
      heartbeatSeconds: 30,
    });
    const named = await system.viewer({ protocols: ['tocsin.v1', 'bearer.ann'] });
    expect(named.socket.protocol).toBe('tocsin.v1');
    const bearer = await system.viewer({ protocols: ['bearer', 'ann'] });
    expect(bearer.socket.protocol).toBe('bearer');
    await system.viewer({ headers: { cookie: 'tocsin_session=ann', origin: 'http://t.example' } });
    await system.viewer({ path: '?ticket=t1' });
    expect(await refusal(system.viewer({ path: '?ticket=t1' }))).toMatchObject({ status: 401, code: 'token-invalid' });
  });

  it('is refused by HTTP for whatever is wrong, and leaves no connection', async () => {
    const system = await start();
    const wrong: [ViewerOptions & { path?: string }, number, string][] = [
      [{}, 401, 'credentials-missing'],
      [{ token: 'nobody' }, 401, 'token-invalid'],
      [{ token: 'nobody', path: '?ticket=t1' }, 401, 'token-invalid'],
      [{ path: '?token=ann' }, 401, 'credentials-missing'],
      [{ token: 'ann', headers: { origin: 'http://evil.example' } }, 403, 'origin-forbidden'],
      [{ headers: { cookie: 'tocsin_session=ann' } }, 403, 'origin-forbidden'],
      [{ token: 'ann', path: '?zone=a%20b' }, 400, 'malformed-parameter'],
      [{ token: 'ann', path: '?offset=3' }, 400, 'malformed-parameter'],
      [{ token: 'ann', path: '/other' }, 404, 'not-found'],
    ];
    for (const [options, status, code] of wrong)
      expect(await refusal(system.viewer(options))).toMatchObject({ status, code });
    system.tokens.set('phone', person('device:d1', { deviceId: 'd1', role: null }));
    expect(await refusal(system.viewer({ token: 'phone' }))).toMatchObject({ status: 403, code: 'role-insufficient' });
    expect(system.transport.connections()).toBe(0);
    expect(await system.bus.presence.list('ws:ip:127.0.0.1')).toEqual([]);
  });

  it('lets anyone read when alerts are public, but still refuses a wrong token', async () => {
    const system = await start({}, undefined, undefined, { access: 'anyone' });
    await system.viewer();
    await system.viewer();
    expect(await refusal(system.viewer({ token: 'nobody' }))).toMatchObject({ status: 401 });
  });

  it('takes a token from the query only when that is allowed', async () => {
    const system = await start({ allowQueryToken: true });
    await system.viewer({ path: '?token=ann' });
  });

  it('gets 503 when the credential takes longer than its time, and is not opened later', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const system = await start();
      let release: () => void = () => undefined;
      system.verifyDelay = new Promise((resolve) => {
        release = resolve;
      });
      const { answer, ended } = await raw(system.port, `${HANDSHAKE}Authorization: Bearer ann\r\n\r\n`);
      await vi.waitUntil(async () => (await system.bus.presence.list('ws:ip:127.0.0.1')).length === 1);
      vi.advanceTimersByTime(5001);
      await vi.waitUntil(() => answer().includes('\r\n\r\n'));
      expect(answer()).toMatch(/^HTTP\/1\.1 503 /);
      release();
      vi.advanceTimersByTime(1001);
      await ended;
      expect(system.transport.connections()).toBe(0);
      await vi.waitUntil(async () => (await system.bus.presence.list('ws:ip:127.0.0.1')).length === 0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('leaves no place and no connection behind when the peer is gone before it is decided', async () => {
    const system = await start();
    let release: () => void = () => undefined;
    system.verifyDelay = new Promise((resolve) => {
      release = resolve;
    });
    const { socket } = await raw(system.port, `${HANDSHAKE}Authorization: Bearer ann\r\n\r\n`);
    await vi.waitUntil(async () => (await system.bus.presence.list('ws:ip:127.0.0.1')).length === 1);
    socket.resetAndDestroy();
    release();
    await vi.waitUntil(async () => (await system.bus.presence.list('ws:ip:127.0.0.1')).length === 0);
    await vi.waitUntil(() => system.transport.connections() === 0);
  });

  it('is refused when its headers took longer than its time', async () => {
    const system = await start();
    expect(system.server.headersTimeout).toBe(5000);
    const { socket, answer, ended } = await raw(system.port, HANDSHAKE);
    await vi.waitUntil(
      () => new Promise((resolve) => system.server.getConnections((_error, count) => resolve(count === 1))),
    );
    const now = performance.now();
    const later = vi.spyOn(performance, 'now').mockImplementation(() => now + 5001);
    try {
      socket.write('Authorization: Bearer ann\r\n\r\n');
      await ended;
    } finally {
      later.mockRestore();
    }
    expect(answer()).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('gets an answer for a broken form, and the socket ends', async () => {
    const system = await start();
    for (const [text, status] of [
      [
        'GET /ws/alerts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n\r\n',
        426,
      ],
      ['POST /ws/alerts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', 405],
      [
        'GET /ws/alerts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n',
        400,
      ],
    ] as const) {
      const { answer, ended } = await raw(system.port, text);
      await ended;
      expect(answer()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    }
  });

  it('is counted once, whether it is let in, refused, or the client hangs up before', async () => {
    const system = await start();
    await system.viewer({ token: 'ann' });
    await refusal(system.viewer({ token: 'nobody' }));
    await refusal(system.viewer({ headers: { origin: 'http://evil.example' } }));
    let decide: () => void = () => undefined;
    system.verifyDelay = new Promise((resolve) => {
      decide = resolve;
    });
    const sockets: Socket[] = [];
    system.server.on('connection', (accepted) => sockets.push(accepted));
    const { socket } = await raw(system.port, `${HANDSHAKE}Authorization: Bearer bob\r\n\r\n`);
    await vi.waitUntil(() => system.transport.handshakes() === 1);
    const gone = new Promise((resolve) => sockets.at(-1)?.once('close', resolve));
    socket.resetAndDestroy();
    await gone;
    decide();
    await vi.waitUntil(() => system.transport.handshakes() === 0);
    const refused = ['refused token-invalid', 'refused origin-forbidden'];
    expect(system.handshakes).toEqual(['joined fresh', 'opened', ...refused, 'abandoned']);
  });
});

describe('limits', () => {
  it('lets only so many connections of one address in, seen through trusted proxies', async () => {
    const system = await start({
      maxConnectionsPerAddress: 2,
      maxConnectionsPerUser: 9,
      reconnectsPerMinute: 99,
      trustedProxies: ['127.0.0.1'],
    });
    const from = (address: string): Promise<ScriptedViewer> =>
      system.viewer({ token: 'ann', headers: { 'x-forwarded-for': address } });
    const first = await from('2001:db8::1');
    await from('2001:db8::2');
    expect(await refusal(from('2001:db8::3'))).toMatchObject({ status: 429, code: 'rate-limited', retryAfter: '5' });
    await from('2001:db8:0:1::1');
    await first.close();
    await vi.waitFor(async () => expect(await from('2001:db8::3')).toBeDefined());
  });

  it('keeps the newest connections of a user and closes the older with 4001', async () => {
    const system = await start();
    const old = await system.viewer({ token: 'ann' });
    const other = await system.viewer({ token: 'bob' });
    const fresh = await system.viewer({ token: 'ann' });
    expect(await old.closed).toMatchObject({ code: 4001 });
    await system.commit();
    await fresh.until((message) => message.type === 'alert');
    await other.until((message) => message.type === 'alert');
    await vi.waitUntil(() => system.transport.connections() === 2);
  });

  it('of connections that were made while the bus was away, the newest is kept once it is back', async () => {
    const system = await start({ reconnectsPerMinute: 100 });
    const looked = (): Promise<boolean> => {
      const before = system.busLooks;
      return vi.waitUntil(() => system.busLooks > before);
    };
    system.busHealthy = false;
    const first = await system.viewer({ token: 'ann' });
    const other = await system.viewer({ token: 'bob' });
    const second = await system.viewer({ token: 'ann' });
    expect(system.transport.connections()).toBe(3);
    await looked();
    system.busHealthy = true;
    await looked();
    pass(3000);
    expect(await first.closed).toMatchObject({ code: 4001 });
    const offset = await system.commit();
    await second.until((message) => message.offset === offset);
    await other.until((message) => message.offset === offset);
  });

  it('is closed for a newer one in another process, though the word of it was lost', async () => {
    const bus = createMemoryBus({ clock });
    let lost = true;
    const publish: typeof bus.pubsub.publish = async (topic, payload) =>
      lost && topic === 'websocket:replaced' ? undefined : bus.pubsub.publish(topic, payload);
    const shared = { ...bus, pubsub: { ...bus.pubsub, publish } };
    const [one, two] = [await start({}, shared), await start({}, shared)];
    const first = await one.viewer({ token: 'ann' });
    const second = await two.viewer({ token: 'ann' });
    expect([one.transport.connections(), two.transport.connections()]).toEqual([1, 1]);
    lost = false;
    expect(await first.closed).toMatchObject({ code: 4001 });
    const offset = await two.commit();
    await second.until((message) => message.offset === offset);
  });

  it('lets a user connect only so often in a minute; a close that asks to come back makes the next one free', async () => {
    const system = await start({ reconnectsPerMinute: 3 });
    for (let n = 0; n < 3; n++) await (await system.viewer({ token: 'ann' })).close();
    const refused = await refusal(system.viewer({ token: 'ann' }));
    expect(refused).toMatchObject({ status: 429, code: 'rate-limited' });
    expect(Number(refused.retryAfter)).toBeGreaterThan(0);
    await (await system.viewer({ token: 'bob' })).close();

    pass(60_000);
    const viewer = await system.viewer({ token: 'ann' });
    system.store.epoch = 'e2';
    expect(await viewer.closed).toMatchObject({ code: 1012 });
    for (let n = 0; n < 3; n++) await (await system.viewer({ token: 'ann' })).close();
    expect(await refusal(system.viewer({ token: 'ann' }))).toMatchObject({ status: 429 });
  });
});

describe('life of a connection', () => {
  it('answers ping, and an error for anything unknown; the second error closes with 1008', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    viewer.send({ type: 'ping' });
    await viewer.until((message) => message.type === 'pong');
    viewer.send({ type: 'secret-word-4711' });
    const error = await viewer.until((message) => message.type === 'error');
    expect(error).toMatchObject({ code: 'schema' });
    expect(JSON.stringify(error)).not.toContain('4711');
    viewer.send('not json');
    expect(await viewer.closed).toMatchObject({ code: 1008 });
    expect(viewer.faults).toEqual([]);
  });

  it('warns at the first message over the rate and closes with 4029 at the next', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    for (let n = 0; n < 6; n++) viewer.send({ type: 'ping' });
    expect(await viewer.until((message) => message.type === 'error')).toMatchObject({ code: 'rate-limited' });
    expect(viewer.messages.filter((message) => message.type === 'pong')).toHaveLength(5);
    viewer.send({ type: 'ping' });
    expect(await viewer.closed).toMatchObject({ code: 4029 });
  });

  it('closes with 1009 for an oversize message, 1007 for text that is no UTF-8, an error for a binary one', async () => {
    const system = await start({ maxConnectionsPerUser: 9 });
    const [large, broken, binary] = [
      await system.viewer({ token: 'ann' }),
      await system.viewer({ token: 'ann' }),
      await system.viewer({ token: 'ann' }),
    ];
    large.send('x'.repeat(1001));
    broken.socket.send(Buffer.from([0xc3, 0x28]), { binary: false });
    binary.socket.send(Buffer.from('{"type":"ping"}'), { binary: true });
    expect(await large.closed).toMatchObject({ code: 1009 });
    expect(await broken.closed).toMatchObject({ code: 1007 });
    expect(await binary.until((message) => message.type === 'error')).toMatchObject({ code: 'schema' });
  });

  it('is cut when no pong came within 10 s, and stays when it came', async () => {
    const system = await start();
    const deaf = await system.viewer({ token: 'ann', client: { autoPong: false } });
    const fine = await system.viewer({ token: 'bob' });
    const pinged = Promise.all([once(deaf.socket, 'ping'), once(fine.socket, 'ping')]);
    pass(30_000);
    await pinged;
    // A second ping can only come when the first was answered.
    fine.send({ type: 'ping' });
    await fine.until((message) => message.type === 'pong');
    pass(10_000);
    expect(await deaf.closed).toMatchObject({ code: 1006 });
    pass(20_000);
    await once(fine.socket, 'ping');
    await vi.waitUntil(() => system.transport.connections() === 1);
  });

  it('ends with 4002 when re-authentication is missed, and lives on after it', async () => {
    const system = await start();
    const lazy = await system.viewer({ token: 'ann' });
    const keen = await system.viewer({ token: 'bob' });
    pass(890_000);
    keen.send({ type: 'authenticate', token: 'bob' });
    const answer = await keen.until((message) => message.type === 'authenticated');
    expect(Number(answer['reauthenticateBy'])).toBeGreaterThan(Number(keen.welcome['reauthenticateBy']));
    pass(20_000);
    expect(await lazy.closed).toMatchObject({ code: 4002 });
    keen.send({ type: 'ping' });
    await keen.until((message) => message.type === 'pong');
  });

  it('ends with 4002 when its token ends first', async () => {
    const system = await start();
    system.tokens.set('short', person('ann', { expiresAt: clock.now() + 60_000 }));
    const viewer = await system.viewer({ token: 'short' });
    pass(60_001);
    expect(await viewer.closed).toMatchObject({ code: 4002 });
  });

  it('keeps no more than a few tokens while they cannot be checked, and answers each of them', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    let check = (): void => undefined;
    system.verifyDelay = new Promise((resolve) => {
      check = resolve;
    });
    for (let n = 0; n < 50; n += 1) viewer.send({ type: 'authenticate', token: 'ann' });
    viewer.send({ type: 'ping' });
    await viewer.until((message) => message.type === 'pong');
    check();
    await vi.waitUntil(
      () => viewer.messages.filter(({ type }) => type === 'authenticated').length === TOKENS_WAITING_MOST,
    );
    const refused = viewer.messages.filter(({ code }) => code === 'rate-limited');
    expect(refused).toHaveLength(50 - TOKENS_WAITING_MOST);
    viewer.send({ type: 'authenticate', token: 'ann' });
    await vi.waitUntil(
      () => viewer.messages.filter(({ type }) => type === 'authenticated').length > TOKENS_WAITING_MOST,
    );
  });

  it('ends with 1008 when it authenticates as somebody else', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    viewer.send({ type: 'authenticate', token: 'wrong' });
    expect(await viewer.until((message) => message.type === 'error')).toMatchObject({ code: 'token-invalid' });
    viewer.send({ type: 'authenticate', token: 'bob' });
    expect(await viewer.closed).toMatchObject({ code: 1008 });
  });

  it('ends with 4004 when its session has ended, told or found out', async () => {
    const system = await start();
    const told = await system.viewer({ token: 'ann' });
    const found = await system.viewer({ token: 'bob' });
    system.tellEnded(['s-ann']);
    expect(await told.closed).toMatchObject({ code: 4004 });
    system.ended.add('s-bob');
    expect(await found.closed).toMatchObject({ code: 4004 });
  });

  it('passes receipts on, and errs for one of what was never sent', async () => {
    const system = await start();
    const viewer = await system.viewer({ token: 'ann' });
    const offset = await system.commit();
    await viewer.until((message) => message.type === 'alert');
    viewer.send({ type: 'received', offset });
    await vi.waitUntil(() => system.receipts.length === 1);
    expect(system.receipts).toEqual([offset]);
    viewer.send({ type: 'received', offset: 99 });
    expect(await viewer.until((message) => message.type === 'error')).toMatchObject({ code: 'schema' });
  });

  it('writes one line at its end, without token or URL', async () => {
    const system = await start({ allowQueryToken: true });
    system.tokens.set('secret-4711', person('ann'));
    const viewer = await system.viewer({ path: '?token=secret-4711' });
    await viewer.close();
    await vi.waitUntil(() => system.lines.length === 1);
    expect(Object.keys(system.lines[0] ?? {})).toEqual([
      ...[
        'connection',
        'path',
        'address',
        'subject',
        'deviceId',
        'code',
        'by',
        'reason',
        'seconds',
        'plan',
        'received',
      ],
      ...['bytesRead', 'bytesWritten', 'offset'],
    ]);
    const line = { path: '/ws/alerts', address: '127.0.0.1', subject: 'ann', deviceId: undefined, received: 0 };
    expect(system.lines[0]).toMatchObject({ ...line, code: 1000, by: 'client', reason: 'left', plan: 'fresh' });
    const { bytesRead, bytesWritten } = system.lines[0] as { bytesRead: number; bytesWritten: number };
    expect(Math.min(bytesRead, bytesWritten)).toBeGreaterThan(150);
    expect(JSON.stringify(system.lines)).not.toContain('4711');
  });

  it('says in that line who ended it and why', async () => {
    const system = await start({ maxConnectionsPerUser: 9, reconnectsPerMinute: 99 });
    const ended = async (end: (viewer: ScriptedViewer) => unknown): Promise<unknown> => {
      system.lines.length = 0;
      const viewer = await system.viewer({ token: 'ann' });
      await end(viewer);
      await vi.waitUntil(() => system.lines.length === 1);
      const { code, by, reason } = system.lines[0] as { code: number; by: string; reason: string };
      return [code, by, reason];
    };
    expect(await ended((viewer) => viewer.cut())).toEqual([1006, 'client', 'lost']);
    // The client's own word for its end is no word of ours, not even 1001 or 1012.
    expect(await ended((viewer) => viewer.socket.close(1001))).toEqual([1001, 'client', 'left']);
    expect(await ended((viewer) => viewer.send('x'.repeat(1001)))).toEqual([1009, 'server', 'tooBig']);
    const noText = Buffer.from([0xc3, 0x28]);
    expect(await ended((viewer) => viewer.socket.send(noText, { binary: false }))).toEqual([1007, 'server', 'broken']);
    expect(await ended(() => system.tellEnded(['s-ann']))).toEqual([4004, 'server', 'revoked']);
    const silent = ended((viewer) => {
      viewer.socket.pause();
      const timer = setInterval(() => pass(10_000), 20);
      return vi.waitUntil(() => system.lines.length === 1).finally(() => clearInterval(timer));
    });
    expect(await silent).toEqual([1006, 'server', 'silent']);
  });
});

describe('delivery over sockets', () => {
  it('survives cuts at any moment: each viewer has every offset once, in order', async () => {
    const system = await start({ reconnectsPerMinute: 1000, maxConnectionsPerUser: 9 });
    let viewer = await system.viewer({ token: 'ann' });
    const seen: (number | undefined)[] = [];
    for (let round = 0; round < 10; round++) {
      for (let n = 0; n < 20; n++) await system.commit();
      if (round % 2 === 0) await viewer.until((message) => Number(message.offset) > round * 20);
      viewer.cut();
      await viewer.closed;
      expect(viewer.faults).toEqual([]);
      seen.push(...viewer.channel().map((message) => message.offset));
      viewer = await system.viewer({ token: 'ann', resume: { epoch: 'e1', offset: seen.at(-1) ?? 0 } });
      expect(viewer.welcome).toMatchObject({ recovered: true, offset: seen.at(-1) ?? 0 });
    }
    await viewer.until(() => viewer.offset() === 200);
    seen.push(...viewer.channel().map((message) => message.offset));
    expect(seen).toEqual(Array.from({ length: 200 }, (_, n) => n + 1));
  });

  it('closes a slow reader with 4008, keeps the others, and the slow one resumes without loss', async () => {
    const system = await start({ maxConnectionsPerUser: 9 });
    const slow = await system.viewer({ token: 'ann' });
    const quick = await system.viewer({ token: 'bob' });
    slow.socket.pause();
    const body = JSON.stringify({ pad: 'x'.repeat(30_000) });
    let head = 0;
    while (system.hub.viewers() === 2 && head < 2000) {
      head = await system.commit(body);
      if (head % 10 === 0) await quick.until(() => quick.offset() >= head);
    }
    expect(system.hub.viewers()).toBe(1);
    slow.socket.resume();
    expect(await slow.closed).toMatchObject({ code: 4008 });
    const again = await system.viewer({ token: 'ann', resume: { epoch: 'e1', offset: slow.offset() } });
    await again.until(() => again.offset() === head);
    const all = [...slow.channel(), ...again.channel()].map((message) => message.offset);
    expect(all).toEqual(Array.from({ length: head }, (_, n) => n + 1));
    expect([...slow.faults, ...again.faults, ...quick.faults]).toEqual([]);
  });

  it('never mixes frames of the hub and of the library, whatever the client sends meanwhile', async () => {
    const system = await start({ messagesPer10Seconds: 10_000 });
    const viewer = await system.viewer({ token: 'ann' });
    for (let n = 0; n < 300; n++) {
      await system.commit();
      viewer.send({ type: 'ping' });
      viewer.socket.ping('x');
      // ws itself ends a connection with more than 60 unanswered pings.
      if (n % 30 === 29) await viewer.until(() => viewer.offset() > n);
    }
    await viewer.until(
      () => viewer.offset() === 300 && viewer.messages.filter((message) => message.type === 'pong').length === 300,
    );
    expect(viewer.faults).toEqual([]);
  });
});
