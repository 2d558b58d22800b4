import { describe, expect, test } from 'vitest';
import { accessToken, cookieSession } from './credentials.ts';
import { alertMessage, createWorld, type Heard, watchFrom, watermark, welcome, type World } from './world.suite.ts';

/** A viewer whose connection was told to move, with the new socket on its way: the old one, then the new one. */
async function overlapping(world: World, offset = 5): Promise<Heard> {
  const heard = await watchFrom(world, offset);
  world.newest().say({ type: 'moving', retryAfterMs: 800 });
  await world.advance(800);
  return heard;
}

describe('a viewer that is told to move', () => {
  test('waits for its turn on the old connection, protected', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say({ type: 'moving', retryAfterMs: 800 });
    await world.advance(799);
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(world.sockets).toHaveLength(1);
    expect(heard.got).toEqual(['alert 6']);
    expect(heard.alerts.state).toBe('protected');
    expect(heard.alerts.phase).toBe('leaving');
  });
  test('opens the new connection before it lets the old one go, and is protected all the time', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    expect([old?.left, young?.url.search]).toEqual([false, '?epoch=e1&offset=5']);
    old?.say(alertMessage(6));
    await world.settle();
    young?.say(welcome(5));
    old?.say(alertMessage(7));
    expect(old?.left).toBe(false);
    young?.say(alertMessage(6));
    expect(old?.left).toBe(false);
    young?.say(alertMessage(7));
    expect(old?.left).toBe(true);
    young?.say(alertMessage(8));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7', 'alert 8']);
    expect(heard.states).toEqual(['not-protected: start', 'protected: watermark']);
    expect(heard.transitions.slice(2)).toEqual([
      'open -> leaving: moving',
      'leaving -> overlapping: moving',
      'overlapping -> handing-over: welcome',
      'handing-over -> open: caught-up',
    ]);
    old?.end(1001);
    expect(heard.alerts.phase).toBe('open');
  });
  test('has nothing to wait for when nothing was missed', async () => {
    const world = createWorld();
    await overlapping(world);
    world.newest().say(welcome(5));
    expect(world.sockets[0]?.left).toBe(true);
  });
  test('whose old connection is replaced by its own new one goes on with that', async () => {
    for (const greeted of [true, false]) {
      const world = createWorld();
      const heard = await overlapping(world);
      const [old, young] = world.sockets;
      old?.say(alertMessage(6));
      if (greeted) young?.say(welcome(5));
      old?.end(4001);
      if (!greeted) young?.say(welcome(5));
      young?.say(alertMessage(6));
      young?.say(alertMessage(7));
      young?.say(watermark(7));
      await world.settle();
      expect(heard.got).toEqual(['alert 6', 'alert 7']);
      expect(heard.events).toEqual([]);
      expect([heard.alerts.phase, heard.alerts.state]).toEqual(['open', 'protected']);
    }
  });
  test('comes back when it is replaced by a new one of its own that failed, once', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    young?.end(1006);
    expect(heard.alerts.phase).toBe('clinging');
    old?.end(4001);
    await world.advance(1000);
    expect(world.sockets).toHaveLength(3);
    world.newest().say(welcome(5));
    await world.settle();
    expect([heard.alerts.phase, heard.events]).toEqual(['open', []]);
    world.newest().end(4001);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'replaced' }]);
  });
  test('opens no new connection before it may, whoever asks for it', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    young?.refuse(429, 10_000);
    old?.say({ type: 'moving', retryAfterMs: 0 });
    await world.advance(9999);
    expect(world.sockets).toHaveLength(2);
    await world.advance(1);
    expect(world.sockets).toHaveLength(3);
    heard.alerts.close();
  });
  test('that is then replaced by somebody else stops', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    young?.say(welcome(5));
    old?.end(4001);
    young?.end(4001);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'replaced' }]);
  });
  test('keeps the old connection when the new one is refused, then backs off', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    young?.refuse(503, 1000);
    await world.advance(5000);
    expect(heard.transitions.at(-1)).toBe('overlapping -> clinging: unavailable');
    expect(world.sockets).toHaveLength(2);
    old?.say(alertMessage(6));
    old?.say(watermark(6));
    await world.settle();
    expect([heard.got, heard.alerts.state]).toEqual([['alert 6'], 'protected']);
    old?.end(1001);
    await world.advance(500);
    expect(world.sockets).toHaveLength(3);
    expect(world.newest().url.searchParams.get('offset')).toBe('6');
  });
  test('whose new connection was refused for a while comes back no sooner than that, once the old one is gone', async () => {
    const world = createWorld();
    await overlapping(world);
    const [old, young] = world.sockets;
    young?.refuse(429, 10_000);
    old?.end(1001);
    await world.advance(9999);
    expect(world.sockets).toHaveLength(2);
    await world.advance(500);
    expect(world.sockets).toHaveLength(3);
  });
  test('resumes behind everything that either connection has brought', async () => {
    const world = createWorld();
    await overlapping(world);
    const [old, young] = world.sockets;
    old?.say(alertMessage(6));
    old?.say(alertMessage(7));
    young?.say(welcome(5));
    young?.say(alertMessage(6));
    young?.end(1006);
    old?.end(1006);
    await world.advance(2000);
    expect(world.newest().url.searchParams.get('offset')).toBe('7');
  });
  test('is not thrown off by a new connection that moves or breaks, either', async () => {
    for (const how of ['moving', 'cut', 'malformed'] as const) {
      const world = createWorld();
      const heard = await overlapping(world);
      const [old, young] = world.sockets;
      old?.say(alertMessage(6));
      young?.say(welcome(5));
      if (how === 'moving') young?.say({ type: 'moving', retryAfterMs: 500 });
      if (how === 'cut') young?.end(1006);
      if (how === 'malformed') young?.say(welcome(5));
      await world.settle();
      expect([how, heard.alerts.phase, heard.alerts.state]).toEqual([how, 'clinging', 'protected']);
    }
  });
  test('whose old connection ends before its turn comes back no sooner than it was told', async () => {
    const world = createWorld();
    await watchFrom(world, 5);
    world.newest().say({ type: 'moving', retryAfterMs: 3000 });
    await world.advance(1000);
    world.newest().end(1001);
    await world.advance(1999);
    expect(world.sockets).toHaveLength(1);
    await world.advance(501);
    expect(world.sockets).toHaveLength(2);
  });
  test('is not made to wait for ever', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say({ type: 'moving', retryAfterMs: 2 ** 50 });
    world.newest().end(1001);
    await world.advance(120_500);
    expect(heard.alerts.phase).toBe('opening');
  });
  test('sends receipts where it is', async () => {
    const world = createWorld();
    await overlapping(world);
    const [old, young] = world.sockets;
    old?.say(alertMessage(6));
    await world.settle();
    young?.say(welcome(5));
    young?.say(alertMessage(6));
    young?.say(alertMessage(7));
    await world.advance(5000);
    expect(old?.sent).toEqual([{ type: 'received', offset: 6 }]);
    expect(young?.sent).toEqual([{ type: 'received', offset: 7 }]);
  });
  test('tells the old connection all that was handled before it leaves it', async () => {
    const world = createWorld();
    const heard = await overlapping(world);
    const [old, young] = world.sockets;
    old?.say(alertMessage(6));
    old?.say(alertMessage(7));
    await world.settle();
    young?.say(welcome(5));
    young?.say(alertMessage(6));
    young?.say(alertMessage(7));
    await world.advance(6000);
    expect(old?.sent.map(({ offset }) => offset)).toEqual([6, 7]);
    expect(young?.sent).toEqual([]);
    for (const offset of [8, 9]) young?.say(alertMessage(offset));
    await world.settle();
    heard.alerts.close();
    expect(young?.sent.map(({ offset }) => offset)).toEqual([8, 9]);
    expect(world.timers()).toBe(0);
  });
});

describe('a server that falls silent', () => {
  test('is asked after one and a half watermark periods, and given up after two', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    await world.advance(14_999);
    expect(world.newest().sent).toEqual([]);
    await world.advance(1);
    expect(world.newest().sent).toEqual([{ type: 'ping' }]);
    await world.advance(4999);
    expect([heard.alerts.state, heard.alerts.phase]).toEqual(['protected', 'open']);
    await world.advance(1);
    expect([heard.alerts.state, heard.alerts.phase]).toEqual(['not-protected', 'resting']);
    expect(world.sockets[0]?.left).toBe(true);
    expect(heard.transitions.at(-1)).toBe('open -> resting: silent');
  });
  test('but answers is kept for six periods without protecting anybody', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let turn = 0; turn < 5; turn++) {
      await world.advance(10_000);
      world.newest().say({ type: 'pong' });
    }
    expect(heard.states.at(-1)).toBe('not-protected: no-watermark');
    expect(heard.alerts.phase).toBe('open');
    await world.advance(10_000);
    expect(heard.transitions.at(-1)).toBe('open -> resting: no-watermark');
  });
  test('and speaks again within time is protected all along', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let turn = 0; turn < 20; turn++) {
      await world.advance(10_000);
      world.newest().say(watermark(5));
    }
    await world.settle();
    expect(heard.states).toEqual(['not-protected: start', 'protected: watermark']);
    expect(world.newest().sent).toEqual([]);
  });
});

describe('a page that sleeps', () => {
  test('is not protected when it wakes, asks, and keeps a connection that answers', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.sleep(3_600_000);
    await world.advance(0);
    expect(heard.alerts.state).toBe('not-protected');
    expect(world.newest().sent).toEqual([{ type: 'ping' }]);
    world.newest().say({ type: 'pong' });
    world.newest().say(watermark(5));
    await world.advance(5000);
    expect([heard.alerts.state, heard.alerts.phase, world.sockets.length]).toEqual(['protected', 'open', 1]);
  });
  test('gives up a connection that does not answer within 5 s', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.sleep(3_600_000);
    await world.advance(4999);
    expect(heard.alerts.phase).toBe('open');
    await world.advance(1);
    expect(heard.transitions.at(-1)).toBe('open -> resting: silent');
  });
  test('gives it up, too, when its timers always come late, as those of a hidden page', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let turn = 0; turn < 3; turn++) {
      world.sleep(60_000);
      await world.advance(0);
    }
    expect(heard.transitions).toContain('open -> resting: silent');
  });
  test('is not protected from the moment on that it is asked, though no timer ran', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.sleep(20_000);
    expect(heard.alerts.state).toBe('not-protected');
    expect(heard.states.at(-1)).toBe('not-protected: no-watermark');
  });
  test('asks the server within a second of waking, whatever its timers have slept', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    // The clock has gone on; the timers go on where they were.
    const { monotonic } = world.env;
    Object.assign(world.env, { monotonic: () => monotonic() + 3_600_000 });
    await world.advance(1000);
    expect(heard.states.at(-1)).toBe('not-protected: no-watermark');
    expect(world.newest().sent).toEqual([{ type: 'ping' }]);
  });
  test('is not protected by watermarks of an hour ago that it reads when it thaws', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    const sent = (from: number): number => world.env.now() + 3000 - from;
    world.newest().say(watermark(5, sent(0)));
    await world.advance(10_000);
    world.newest().say(watermark(5, sent(0)));
    await world.settle();
    expect(heard.alerts.state).toBe('protected');
    world.sleep(3_600_000);
    for (const ago of [3_590_000, 3_580_000, 3_570_000, 21_000]) world.newest().say(watermark(5, sent(ago)));
    await world.settle();
    expect(heard.alerts.state).toBe('not-protected');
    world.newest().say(watermark(5, sent(0)));
    await world.settle();
    expect(heard.alerts.state).toBe('protected');
    // A clock of the server that is set back is no age.
    await world.advance(10_000);
    world.newest().say(watermark(5, 500));
    await world.advance(10_000);
    expect(heard.alerts.state).toBe('protected');
  });
  test('asks when the network comes or goes, once in 5 s', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let turn = 0; turn < 10; turn++) world.wake();
    expect(world.newest().sent).toEqual([{ type: 'ping' }]);
    await world.advance(5000);
    expect(heard.alerts.phase).toBe('resting');
  });
  test('comes back within a second of waking, but never before it may', async () => {
    const world = createWorld();
    await watchFrom(world, 5);
    for (let turn = 0; turn < 8; turn++) {
      world.newest().end(1006);
      await world.advance(turn < 7 ? 60_000 : 0);
    }
    const before = world.sockets.length;
    world.wake();
    await world.advance(500);
    expect(world.sockets.length).toBe(before + 1);
    world.newest().refuse(429, 40_000);
    world.wake();
    await world.advance(39_999);
    expect(world.sockets.length).toBe(before + 1);
    await world.advance(1000);
    expect(world.sockets.length).toBe(before + 2);
  });
});

describe('re-authentication', () => {
  const END = 1_000_000 + 900_000;
  const authentications = (world: World): unknown[] =>
    world.sockets.flatMap(({ sent }) => sent.filter(({ type }) => type === 'authenticate').map(({ token }) => token));
  const keepAlive = async (world: World, ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 5000) {
      world.sockets[0]?.say(watermark(5, world.env.now()));
      await world.advance(5000);
    }
  };
  const numbered = (needs: string[] = []): ReturnType<typeof accessToken> =>
    accessToken((need) => {
      needs.push(need);
      return `jwt${needs.length}`;
    });

  test('happens on the open connection, in time, with a new token', async () => {
    const world = createWorld();
    const needs: string[] = [];
    await watchFrom(world, 5, { credentials: numbered(needs) }, { reauthenticateBy: END });
    await keepAlive(world, 835_000);
    expect(authentications(world)).toEqual([]);
    await keepAlive(world, 50_000);
    expect(needs).toEqual(['connect', 'reauthenticate']);
    expect(authentications(world)).toEqual(['jwt2']);
    world.newest().say({ type: 'authenticated', reauthenticateBy: END + 900_000 });
    await keepAlive(world, 800_000);
    expect(authentications(world)).toHaveLength(1);
    await keepAlive(world, 100_000);
    expect(authentications(world)).toHaveLength(2);
    expect(world.sockets).toHaveLength(1);
  });
  test('goes by the clock of the server, however wrong ours is', async () => {
    for (const wrong of [-3_600_000, 3_600_000]) {
      const world = createWorld();
      await watchFrom(world, 5, { credentials: numbered() }, { reauthenticateBy: END + wrong });
      for (let passed = 0; passed < 820_000; passed += 5000) {
        world.newest().say(watermark(5, world.env.now() + wrong));
        await world.advance(5000);
      }
      expect(authentications(world).length).toBe(0);
      for (let passed = 0; passed < 70_000; passed += 5000) {
        world.newest().say(watermark(5, world.env.now() + wrong));
        await world.advance(5000);
      }
      expect(authentications(world).length).toBe(1);
    }
  });
  test('is in time though our clock is set back meanwhile', async () => {
    const world = createWorld();
    await watchFrom(world, 5, { credentials: numbered() }, { reauthenticateBy: END });
    await keepAlive(world, 100_000);
    const { now } = world.env;
    const server = (): number => now();
    Object.assign(world.env, { now: () => now() - 3_600_000 });
    for (let passed = 100_000; passed < 890_000; passed += 5000) {
      world.sockets[0]?.say(watermark(5, server()));
      await world.advance(5000);
    }
    expect(authentications(world).length).toBeGreaterThan(0);
  });
  test('with a token that does not move the end is tried again, and left to 4002 then', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, {}, { reauthenticateBy: END });
    for (let passed = 0; passed < 895_000; passed += 5000) {
      await keepAlive(world, 5000);
      if (authentications(world).length > 0) world.newest().say({ type: 'authenticated', reauthenticateBy: END });
    }
    expect(authentications(world).length).toBeGreaterThan(0);
    expect(authentications(world).length).toBeLessThan(10);
    world.newest().end(4002);
    await world.advance(1000);
    // It may be good still: only the server can tell.
    expect(heard.alerts.phase).toBe('opening');
    world.newest().refuse(401);
    await world.advance(1000);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'credentials' }]);
  });
  test('that the server does not take moves to another connection instead of a second strike', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, { credentials: numbered() }, { reauthenticateBy: END });
    await keepAlive(world, 890_000);
    world.newest().say({ type: 'error', code: 'token-invalid', detail: '' });
    await world.advance(0);
    expect(heard.alerts.phase).toBe('overlapping');
    expect(world.newest().bearer).toBe('jwt3');
    world.newest().say(welcome(5));
    expect(heard.alerts.phase).toBe('open');
    expect(heard.alerts.state).toBe('protected');
  });
  test('is tried again when the server could not check', async () => {
    const world = createWorld();
    await watchFrom(world, 5, { credentials: numbered() }, { reauthenticateBy: END });
    await keepAlive(world, 870_000);
    world.newest().say({ type: 'error', code: 'store-unavailable', detail: '' });
    await keepAlive(world, 20_000);
    expect(authentications(world)).toHaveLength(2);
  });
  test('without a token to show is a new connection before the old one ends', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, { credentials: cookieSession() }, { reauthenticateBy: END });
    await keepAlive(world, 860_000);
    expect(world.sockets).toHaveLength(2);
    world.newest().say(welcome(5, { reauthenticateBy: END + 900_000 }));
    await world.settle();
    expect([heard.alerts.phase, heard.alerts.state, world.sockets[0]?.left]).toEqual(['open', 'protected', true]);
  });
  test('that has to move and is refused tries again while the old connection lives', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, { credentials: cookieSession() }, { reauthenticateBy: END });
    await keepAlive(world, 860_000);
    world.newest().refuse(503);
    expect(heard.alerts.phase).toBe('clinging');
    await keepAlive(world, 15_000);
    expect(world.sockets).toHaveLength(3);
    world.newest().say(welcome(5));
    expect(heard.alerts.phase).toBe('open');
  });
});
