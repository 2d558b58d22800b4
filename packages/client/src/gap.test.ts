import { describe, expect, test } from 'vitest';
import { cookieSession } from './credentials.ts';
import type { ResumePoint } from './resume-point.ts';
import {
  alertAt,
  alertMessage,
  createWorld,
  type Heard,
  signature,
  watchFrom,
  watermark,
  welcome,
  type World,
} from './world.suite.ts';

const list = (world: World, ...pages: unknown[][]): URLSearchParams[] => {
  const queries: URLSearchParams[] = [];
  world.routes.set('/v1/alerts', (_init, url) => {
    queries.push(url.searchParams);
    const page = Number(url.searchParams.get('cursor') ?? 0);
    return { status: 200, body: { items: pages[page] ?? [], next: page + 1 < pages.length ? String(page + 1) : null } };
  });
  return queries;
};

/** A viewer at 5 that was cut and could not resume: the head is 9 now. */
async function cutTooLong(world: World, options: object = {}, more: object = {}): Promise<Heard> {
  const heard = await watchFrom(world, 4, options);
  world.newest().say(alertMessage(5));
  await world.settle();
  world.newest().end(1006);
  await world.advance(250);
  world.newest().say(welcome(9, { recovered: false, ...more }));
  return heard;
}

describe('what a resume cannot bring', () => {
  test('is told, fetched, and delivered once, oldest first; until then nobody is protected', async () => {
    const world = createWorld();
    const queries = list(world, [alertAt(9), alertAt(8)], [alertAt(7), alertAt(5), alertAt(11)]);
    const heard = await cutTooLong(world);
    expect(heard.states.at(-1)).toBe('catching-up: gap');
    await world.advance(0);
    expect(heard.got).toEqual(['alert 5', 'alert 7', 'alert 8', 'alert 9']);
    const missed = { after: 5, upTo: 9 };
    expect(heard.events).toEqual([
      { name: 'gap', detail: { outcome: 'pending', missed, alerts: 0 } },
      { name: 'gap', detail: { outcome: 'fetched', missed, alerts: 3 } },
    ]);
    expect(queries[0]?.get('limit')).toBe('500');
    // The oldest alert that is still open, less a minute.
    expect(queries[0]?.get('since')).toBe(String(1_000_005 - 60_000));
    world.newest().say(watermark(9));
    await world.settle();
    expect(heard.alerts.state).toBe('protected');
  });
  test('is asked for by the time of the server, never by ours', async () => {
    for (const known of [true, false]) {
      const world = createWorld();
      const queries = list(world, [alertAt(9), alertAt(3)]);
      const heard = await watchFrom(world, 5);
      if (known) world.newest().say(watermark(5, 400_000));
      world.newest().end(1006);
      await world.advance(250);
      world.newest().say(welcome(9, { recovered: false }));
      await world.advance(0);
      expect(queries[0]?.get('since')).toBe(String((known ? 400_000 : 1_000_250 - 86_400_000) - 60_000));
      // What was before the first welcome is nobody's business.
      expect(heard.got).toEqual(['alert 9']);
    }
  });
  test('does not keep live alerts waiting', async () => {
    const world = createWorld();
    world.routes.set('/v1/alerts', () => ({ status: 503 }));
    const heard = await cutTooLong(world);
    world.newest().say(alertMessage(10));
    await world.advance(0);
    expect(heard.got).toEqual(['alert 5', 'alert 10']);
    list(world, [alertAt(8)]);
    await world.advance(20_000);
    expect(heard.got).toEqual(['alert 5', 'alert 10', 'alert 8']);
  });
  test('is asked with the filters, and again when it fails for a while', async () => {
    const world = createWorld();
    let failures = 0;
    world.routes.set('/v1/alerts', () => {
      failures += 1;
      return failures < 4 ? null : { status: 503 };
    });
    const heard = await cutTooLong(world, { zone: 'z', minSeverity: 'severe' });
    await world.advance(10_000);
    const queries = list(world, [alertAt(8), alertAt(7, { severity: 'minor' })]);
    world.newest().say(watermark(9));
    await world.advance(40_000);
    expect(queries[0]?.get('zone')).toBe('z');
    expect(heard.got).toEqual(['alert 5', 'alert 8']);
  });
  test('may stay unreachable: that is told, too', async () => {
    for (const [credentials, status] of [
      [cookieSession(), 200],
      [undefined, 403],
    ] as const) {
      const world = createWorld();
      world.routes.set('/v1/alerts', () => ({ status, body: { items: [], next: null } }));
      const heard = await cutTooLong(world, credentials === undefined ? {} : { credentials });
      await world.advance(0);
      expect(heard.events.at(-1)).toMatchObject({ name: 'gap', detail: { outcome: 'unreachable' } });
    }
  });
  test('is given up after twenty failures, a lack of permission (CORS) being one', async () => {
    const world = createWorld();
    world.routes.set('/v1/alerts', () => null);
    const heard = await cutTooLong(world);
    for (let turn = 0; turn < 60; turn++) {
      world.newest().say(watermark(9));
      await world.advance(10_000);
    }
    expect(heard.events.at(-1)).toMatchObject({ name: 'gap', detail: { outcome: 'unreachable' } });
    expect(heard.alerts.state).toBe('protected');
    expect(world.asked.filter((line) => line === 'GET /v1/alerts')).toHaveLength(21);
  });
  test('ends after 10,000 alerts', async () => {
    const world = createWorld();
    let pages = 0;
    world.routes.set('/v1/alerts', () => {
      pages += 1;
      return { status: 200, body: { items: [], next: 'more' } };
    });
    const heard = await cutTooLong(world);
    await world.advance(0);
    expect(pages).toBe(20);
    expect(heard.events.at(-1)).toMatchObject({ detail: { outcome: 'partly' } });
  });
  test('with another epoch begins the offsets anew', async () => {
    const world = createWorld();
    list(world, [alertAt(3), alertAt(2)]);
    const heard = await cutTooLong(world, {}, { epoch: 'e2', offset: 1 });
    world.newest().say({ type: 'alert', offset: 2, data: alertAt(2) });
    await world.advance(0);
    expect(heard.events.at(-1)).toMatchObject({ detail: { outcome: 'fetched', missed: null } });
    expect(heard.got.toSorted()).toEqual(['alert 2', 'alert 3', 'alert 5']);
    world.newest().end(1006);
    await world.advance(5000);
    expect(world.newest().url.search).toBe('?epoch=e2&offset=2');
  });
  test('that opens while another one is being filled is one with it', async () => {
    const world = createWorld();
    world.routes.set('/v1/alerts', () => null);
    const heard = await cutTooLong(world);
    world.newest().say(alertMessage(10));
    await world.advance(0);
    world.newest().end(1006);
    await world.advance(1000);
    list(world, [alertAt(14), alertAt(10), alertAt(7)]);
    world.newest().say(welcome(15, { recovered: false }));
    await world.advance(0);
    expect(heard.got).toEqual(['alert 5', 'alert 10', 'alert 7', 'alert 14']);
    const detail = { outcome: 'fetched', missed: { after: 5, upTo: 15 }, alerts: 2 };
    expect(heard.events.at(-1)).toEqual({ name: 'gap', detail });
  });
  test('behind a head that went back is everything since then: the offsets count anew', async () => {
    const world = createWorld();
    const restored = alertAt(4, { id: '01KACD5R00TESTVECT0RXXXXXX' });
    list(world, [restored]);
    const heard = await cutTooLong(world, {}, { offset: 4 });
    await world.advance(0);
    expect(heard.got).toEqual(['alert 5', 'alert 4']);
    expect(heard.events.at(-1)).toMatchObject({ detail: { outcome: 'fetched', missed: null } });
  });
  test('is filled even when a live alert is forged meanwhile', async () => {
    const world = createWorld();
    let answer: (good: boolean) => void = () => undefined;
    const slow = new Promise<boolean>((resolve) => (answer = resolve));
    const first = world.env.subtle?.verify;
    const heard = await watchFrom(world, 5);
    world.newest().end(1006);
    await world.advance(250);
    list(world, [alertAt(8)]);
    Object.assign(world.env.subtle ?? {}, { verify: () => slow });
    world.newest().say(welcome(9, { recovered: false }));
    world.newest().say(alertMessage(10));
    await world.advance(0);
    Object.assign(world.env.subtle ?? {}, { verify: first });
    answer(false);
    await world.advance(1000);
    expect(heard.got).toEqual(['alert 8']);
    expect(heard.events.at(-1)).toMatchObject({ name: 'gap', detail: { outcome: 'fetched', alerts: 1 } });
  });
  test('is fetched from the last word of the server, though its clock was wrong before', async () => {
    const world = createWorld();
    const queries = list(world, []);
    await watchFrom(world, 5);
    for (const at of [90_000_000, 400_000]) {
      world.newest().say(watermark(5, at));
      await world.settle();
    }
    world.newest().end(1006);
    await world.advance(250);
    world.newest().say(welcome(9, { recovered: false }));
    await world.advance(0);
    expect(queries[0]?.get('since')).toBe(String(400_000 - 60_000));
  });
  test('is asked for no sooner than the server allows', async () => {
    const world = createWorld();
    let asked = 0;
    world.routes.set('/v1/alerts', () => {
      asked += 1;
      return { status: 503, retryAfter: '50' };
    });
    await cutTooLong(world);
    await world.advance(49_999);
    expect(asked).toBe(1);
  });
  test('is found again by a reload, too, when the viewer is turned away before it is filled', async () => {
    const world = createWorld();
    world.routes.set('/v1/alerts', () => null);
    const saved: ResumePoint[] = [];
    const heard = await cutTooLong(world, {
      resume: { load: () => null, save: (point: ResumePoint) => saved.push(point) },
    });
    heard.alerts.on('alert', () => new Promise((resolve) => void world.env.after(1000, () => resolve(undefined))));
    world.newest().say(alertMessage(10));
    await world.advance(10);
    world.newest().end(4004);
    await world.advance(5000);
    expect([heard.alerts.phase, saved.at(-1)?.offset]).toEqual(['stopped', 5]);
  });
  test('that is forged or malformed is not delivered', async () => {
    const world = createWorld();
    list(world, [{ ...alertAt(9), state: 'odd' }, alertAt(8, { signature: signature('k1', false) }), alertAt(7)]);
    const heard = await cutTooLong(world);
    await world.advance(0);
    expect(heard.got).toEqual(['alert 5', 'alert 7']);
    expect(heard.alerts.counts.violations).toBe(2);
    expect(heard.events.at(-1)).toMatchObject({ name: 'gap', detail: { outcome: 'partly' } });
    expect(heard.alerts.state).toBe('not-protected');
  });
  test('is found again by a reload while it is not filled', async () => {
    const world = createWorld();
    world.routes.set('/v1/alerts', () => null);
    const saved: ResumePoint[] = [];
    const heard = await cutTooLong(world, {
      resume: { load: () => null, save: (point: ResumePoint) => saved.push(point) },
    });
    world.newest().say(alertMessage(10));
    await world.advance(100);
    expect(saved.at(-1)?.offset).toBe(5);
    list(world, [alertAt(8)]);
    world.newest().say(watermark(10));
    await world.advance(15_000);
    expect(saved.at(-1)?.offset).toBe(10);
    heard.alerts.close();
    expect(world.timers()).toBe(0);
  });
});
