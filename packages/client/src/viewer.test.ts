import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import { describe, expect, test } from 'vitest';
import { accessToken, anybody, cookieSession, tickets } from './credentials.ts';
import { INBOX_MESSAGES } from './inbox.ts';
import type { ResumePoint } from './resume-point.ts';
import { alertAt, alertMessage, createWorld, watch, watchFrom, watermark, welcome } from './world.suite.ts';

describe('the first connection', () => {
  test('asks for the channel with the token as a bearer, and never in the URL', async () => {
    const world = createWorld();
    watch(world, { url: 'https://a.test/base', zone: 'z1', minSeverity: 'severe' });
    await world.advance(0);
    const { url, bearer } = world.newest();
    expect(url.href).toBe('wss://a.test/base/ws/alerts?zone=z1&minSeverity=severe');
    expect(bearer).toBe('jwt');
  });
  test('is protected from its welcome on, because that is the head of the channel', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 7);
    expect(heard.states).toEqual(['not-protected: start', 'protected: watermark']);
    expect(heard.transitions).toEqual(['idle -> opening: start', 'opening -> open: welcome']);
  });
  test('delivers what comes, in order, first words and updates apart', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 7);
    world.newest().say(alertMessage(8));
    world.newest().say(alertMessage(9, { id: alertAt(8).id, revision: 2 }));
    world.newest().say(alertMessage(10));
    await world.settle();
    expect(heard.got).toEqual(['alert 8', 'update 9', 'alert 10']);
  });
  test('tells the first word of an alert as one, even when the server calls it an update', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 7, { minSeverity: 'severe' });
    world.newest().say(alertMessage(9, { revision: 4 }));
    await world.settle();
    expect(heard.got).toEqual(['alert 9']);
  });
  test('that is answered with anything but welcome is a violation, and tried again', async () => {
    const world = createWorld();
    const heard = watch(world);
    await world.advance(0);
    world.newest().say(alertMessage(1));
    await world.advance(60_000);
    expect(heard.got).toEqual([]);
    expect(heard.events[0]).toMatchObject({ name: 'violation', detail: { reason: 'shape' } });
    expect(world.sockets.length).toBeGreaterThan(1);
  });
  test('that hears nothing is given up after 20 s', async () => {
    const world = createWorld();
    const heard = watch(world);
    await world.advance(19_999);
    expect(heard.transitions).toHaveLength(1);
    await world.advance(1);
    expect(heard.transitions.at(-1)).toBe('opening -> resting: handshake-late');
    expect(world.sockets[0]?.left).toBe(true);
  });
  test('throws for a URL that is none', () => {
    const world = createWorld();
    expect(() => watch(world, { url: 'not a url' })).toThrow(TypeError);
  });
});

describe('close code', () => {
  const rows = Object.entries(CLOSE_CODES);
  test.each(rows)('%s leads where the protocol says', async (name, row) => {
    const world = createWorld();
    const tokens: string[] = [];
    const credentials = accessToken((need) => {
      tokens.push(need);
      return `jwt${tokens.length}`;
    });
    const heard = await watchFrom(world, 5, { credentials });
    world.newest().end(row.code);
    await world.advance(120_000);
    if (row.advice === 'stay-away') {
      expect(heard.alerts.phase).toBe('stopped');
      expect(heard.events).toEqual([{ name: 'stopped', detail: name }]);
      expect(heard.states.at(-1)).toBe(`not-protected: ${name}`);
      expect(world.sockets).toHaveLength(1);
      expect(world.timers()).toBe(0);
      return;
    }
    expect(heard.transitions).toContain(`open -> resting: ${name}`);
    expect(world.sockets.length).toBeGreaterThan(1);
    expect(world.sockets[1]?.url.searchParams.get('offset')).toBe('5');
    expect(world.sockets[1]?.url.searchParams.get('epoch')).toBe('e1');
    expect(tokens[1]).toBe(row.advice === 'refresh-then-reconnect' ? 'reauthenticate' : 'connect');
  });
  test('of nobody is a loss of the network: the wait grows with each failure, and ends with a watermark', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    const waits: number[] = [];
    for (let turn = 0; turn < 9; turn++) {
      const before = world.sockets.length;
      world.newest().end(4999);
      const from = world.env.monotonic();
      while (world.sockets.length === before) await world.advance(50);
      waits.push(world.env.monotonic() - from);
      world.newest().say(welcome(5));
      await world.settle();
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 2500, 2500, 2500, 2500, 2500]);
    world.newest().say(watermark(5));
    world.newest().end(1006);
    await world.advance(250);
    expect(world.sockets).toHaveLength(11);
    expect(heard.alerts.phase).toBe('opening');
  });
});

describe('after a handshake that failed without a word', () => {
  test.each<[number, string | undefined, string]>([
    [401, undefined, 'a new token, then the handshake'],
    [429, '7', 'waits'],
    [503, undefined, 'waits'],
    [200, undefined, 'the handshake'],
  ])('the session is asked first; %i leads to %s %s', async (status, retryAfter, then) => {
    const world = createWorld();
    const needs: string[] = [];
    const credentials = accessToken((need) => {
      needs.push(need);
      return `jwt${needs.length}`;
    });
    world.routes.set('/v1/auth/session', () => ({ status, ...(retryAfter === undefined ? {} : { retryAfter }) }));
    watch(world, { credentials });
    await world.advance(0);
    world.newest().end(1006);
    await world.advance(250);
    expect(world.asked).toContain('GET /v1/auth/session');
    expect(world.sockets).toHaveLength(then === 'waits' ? 1 : 2);
    if (status === 401) expect([needs.at(-1), world.newest().bearer]).toEqual(['refused', 'jwt3']);
    if (status === 429) {
      world.routes.set('/v1/auth/session', () => ({ status: 200 }));
      await world.advance(6999);
      expect(world.sockets).toHaveLength(1);
      await world.advance(4001);
      expect(world.sockets).toHaveLength(2);
    }
  });
  test('a session that is gone, with a token that stays the same, is the end', async () => {
    const world = createWorld();
    world.routes.set('/v1/auth/session', () => ({ status: 401 }));
    const heard = watch(world);
    await world.advance(0);
    world.newest().end(1006);
    await world.advance(1000);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'credentials' }]);
  });
  test('a cookie session that is gone is the end; nobody and tickets have nothing to ask', async () => {
    for (const [credentials, stops] of [
      [cookieSession(), true],
      [anybody(), false],
      [tickets(() => 't'), false],
    ] as const) {
      const world = createWorld();
      world.routes.set('/v1/auth/session', () => ({ status: 401 }));
      const heard = watch(world, { credentials });
      await world.advance(0);
      world.newest().end(1006);
      await world.advance(1000);
      expect(heard.alerts.phase === 'stopped').toBe(stops);
      expect(world.asked.includes('GET /v1/auth/session')).toBe(stops);
    }
  });
  test('in Node the status itself decides', async () => {
    const world = createWorld();
    const heard = watch(world);
    await world.advance(0);
    world.newest().refuse(429, 5000);
    await world.advance(4999);
    expect(world.sockets).toHaveLength(1);
    await world.advance(2001);
    expect(world.sockets).toHaveLength(2);
    world.newest().refuse(403);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'forbidden' }]);
  });
});

describe('resuming', () => {
  test('is catching up until a watermark covers everything', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().end(1006);
    await world.advance(250);
    world.newest().say(welcome(5));
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(heard.states.slice(-2)).toEqual(['not-protected: network', 'catching-up: resuming']);
    world.newest().say(watermark(6));
    await world.settle();
    expect(heard.states.at(-1)).toBe('protected: watermark');
    expect(heard.got).toEqual(['alert 6']);
  });
  test('at another place than the one asked for is a violation', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().end(1006);
    await world.advance(250);
    world.newest().say(welcome(9));
    expect(heard.transitions.at(-1)).toBe('opening -> resting: violation');
  });
  test('a message that comes twice is told once', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (const offset of [6, 6, 7, 6, 7, 8]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7', 'alert 8']);
    expect(heard.alerts.counts.duplicates).toBe(3);
  });
  test('an older revision is not told after a newer one', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    const { id } = alertAt(6);
    world.newest().say(alertMessage(6, { id, revision: 3 }));
    world.newest().say(alertMessage(7, { id, revision: 2 }));
    world.newest().say(alertMessage(8, { id, revision: 3 }));
    await world.settle();
    expect(heard.got).toEqual(['alert 6']);
  });
  test('goes on after a reload where the application was', async () => {
    const world = createWorld();
    const saved: ResumePoint[] = [];
    const first = await watchFrom(world, 5, { resume: { load: () => null, save: (point) => saved.push(point) } });
    world.newest().say(alertMessage(6));
    await world.settle();
    first.alerts.close();
    expect(saved.at(-1)).toEqual({ epoch: 'e1', offset: 6, at: 1_000_006 });
    watch(world, { resume: { load: () => saved.at(-1), save: () => undefined } });
    await world.advance(0);
    expect(world.newest().url.search).toBe('?epoch=e1&offset=6');
  });
  test('saves nothing of an alert before its listeners have returned', async () => {
    const world = createWorld();
    const saved: number[] = [];
    const heard = await watchFrom(world, 5, { resume: { load: () => null, save: ({ offset }) => saved.push(offset) } });
    let done: () => void = () => undefined;
    heard.alerts.on('alert', () => new Promise<void>((resolve) => (done = resolve)));
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(saved).toEqual([5]);
    done();
    await world.settle();
    expect(saved).toEqual([5, 6]);
  });
  test('a store that fails, or holds something else, is told and does not stop the stream', async () => {
    const world = createWorld();
    const broken = {
      load: () => ({ epoch: 1 }),
      save: () => {
        throw new Error('full');
      },
    };
    const heard = await watchFrom(world, 5, { resume: broken });
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(heard.got).toEqual(['alert 6']);
    expect(heard.events).toContainEqual({ name: 'error', detail: { during: 'resume', error: new Error('full') } });
  });
});

describe('receipts', () => {
  const receipts = (world: ReturnType<typeof createWorld>): unknown[] =>
    world.sockets.flatMap(({ sent }) => sent.filter(({ type }) => type === 'received').map(({ offset }) => offset));

  test('go at once after quiet, then at most one in 5 s, cumulative', async () => {
    const world = createWorld();
    await watchFrom(world, 5);
    for (const offset of [6, 7, 8]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(receipts(world)).toEqual([6]);
    await world.advance(4999);
    expect(receipts(world)).toEqual([6]);
    await world.advance(1);
    expect(receipts(world)).toEqual([6, 8]);
    await world.advance(5000);
    world.newest().say(alertMessage(9));
    await world.settle();
    expect(receipts(world)).toEqual([6, 8, 9]);
  });
  test('wait for the listeners', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    let done: () => void = () => undefined;
    heard.alerts.on('alert', () => new Promise<void>((resolve) => (done = resolve)));
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(receipts(world)).toEqual([]);
    done();
    await world.settle();
    expect(receipts(world)).toEqual([6]);
  });
  test('that a cut kept back follow on the next connection', async () => {
    const world = createWorld();
    await watchFrom(world, 5);
    for (const offset of [6, 7]) world.newest().say(alertMessage(offset));
    await world.settle();
    world.newest().end(1006);
    await world.advance(5250);
    world.newest().say(welcome(7));
    await world.settle();
    expect(receipts(world)).toEqual([6, 7]);
  });
});

describe('listeners', () => {
  test('that throw are told, do not hold up the stream, and count as having handled it', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    heard.alerts.on('alert', () => {
      throw new Error('broken');
    });
    heard.alerts.on('error', () => {
      throw new Error('broken as well');
    });
    for (const offset of [6, 7]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7']);
    expect(heard.events).toHaveLength(2);
    expect(heard.events[0]).toEqual({ name: 'error', detail: { during: 'handler', error: new Error('broken') } });
    expect(world.newest().sent).toContainEqual({ type: 'received', offset: 6 });
  });
  test('that are slow fill the inbox; then the connection is given up, and resumed once there is room', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 0);
    const waiting: (() => void)[] = [];
    heard.alerts.on('alert', () => new Promise<void>((resolve) => waiting.push(resolve)));
    for (let offset = 1; offset <= INBOX_MESSAGES + 50; offset++) world.newest().say(alertMessage(offset));
    expect(heard.transitions.at(-1)).toBe('open -> resting: overflow');
    expect(heard.states.at(-1)).toBe('not-protected: overflow');
    await world.advance(60_000);
    expect(world.sockets).toHaveLength(1);
    while (heard.got.length < INBOX_MESSAGES - 100) {
      waiting.shift()?.();
      await Promise.resolve();
    }
    await world.advance(1000);
    expect(world.sockets).toHaveLength(2);
    expect(Number(world.newest().url.searchParams.get('offset'))).toBe(INBOX_MESSAGES + 1);
    heard.alerts.close();
  });
  test('that are slow make a proof no younger than it was when it came', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    let done: () => void = () => undefined;
    heard.alerts.on('alert', () => new Promise<void>((resolve) => (done = resolve)));
    world.newest().say(alertMessage(6));
    await world.settle();
    world.newest().say(watermark(6));
    await world.advance(14_000);
    world.newest().say({ type: 'pong' });
    done();
    await world.settle();
    expect(heard.alerts.state).toBe('protected');
    await world.advance(5999);
    expect(heard.alerts.state).toBe('protected');
    await world.advance(1);
    expect(heard.alerts.state).toBe('not-protected');
  });
  test('stop hearing when they ask for it', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    const got: number[] = [];
    const stop = heard.alerts.on('alert', ({ offset }) => got.push(offset));
    world.newest().say(alertMessage(6));
    await world.settle();
    stop();
    world.newest().say(alertMessage(7));
    await world.settle();
    expect(got).toEqual([6]);
  });
});

describe('close', () => {
  test('ends everything in every phase: no timer is left, no event comes after', async () => {
    for (const until of [0, 1, 2, 3, 4]) {
      const world = createWorld();
      const heard = watch(world);
      if (until > 0) await world.advance(0);
      if (until > 1) world.newest().say(welcome(5));
      if (until > 2) world.newest().say({ type: 'moving', retryAfterMs: 1000 });
      if (until > 3) world.newest().end(1006);
      await world.settle();
      heard.alerts.close();
      const { length } = heard.events;
      const states = heard.states.length;
      world.sockets.at(-1)?.say(alertMessage(6));
      expect(world.timers()).toBe(0);
      await world.advance(100_000);
      expect(world.timers()).toBe(0);
      expect([heard.events.length, heard.states.length, heard.got]).toEqual([length, states, []]);
      expect(heard.alerts.phase).toBe('closed');
      expect(world.sockets.every(({ left }) => left || until > 3)).toBe(true);
    }
  });
  test('by a listener of an alert leaves no timer', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say(alertMessage(6));
    await world.settle();
    heard.alerts.on('alert', async ({ offset }) => {
      if (offset === 7) heard.alerts.close();
      await Promise.resolve();
    });
    for (const offset of [7, 8]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7']);
    expect(world.timers()).toBe(0);
  });
  test('may be called by a listener, at any moment', async () => {
    for (const name of ['transition', 'state'] as const) {
      for (let turn = 1; turn <= 4; turn++) {
        const world = createWorld();
        const heard = watch(world);
        let calls = 0;
        heard.alerts.on(name, () => {
          calls += 1;
          if (calls === turn) heard.alerts.close();
        });
        await world.advance(0);
        world.sockets.at(-1)?.say(welcome(5));
        world.sockets.at(-1)?.end(1006);
        await world.advance(100_000);
        if (calls < turn) heard.alerts.close();
        expect(world.timers(), `${name} ${turn}`).toBe(0);
      }
    }
  });
});
