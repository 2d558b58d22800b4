import { describe, expect, test } from 'vitest';
import { MALFORMED_MOST } from './link.ts';
import { alertAt, alertMessage, createWorld, signature, watch, watchFrom, watermark, welcome } from './world.suite.ts';

describe('what the server must not send', () => {
  test('is not delivered, counted, and told', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say('{');
    world.newest().say({ type: 'alert', offset: 6, data: { ...alertAt(6), severity: 'enormous' } });
    world.newest().say(alertMessage(7));
    await world.settle();
    expect(heard.got).toEqual(['alert 7']);
    expect(heard.events.map(({ detail }) => detail)).toEqual([
      { reason: 'shape', offset: null, count: 1 },
      { reason: 'shape', offset: 6, count: 2 },
    ]);
    world.newest().say(watermark(7));
    await world.settle();
    expect(heard.states.at(-1)).toBe('not-protected: shape');
    expect(heard.alerts.counts.violations).toBe(2);
  });
  test('ends the connection when there is too much of it', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let turn = 0; turn <= MALFORMED_MOST + 20; turn++) world.newest().say('{');
    expect(heard.alerts.counts.violations).toBe(MALFORMED_MOST + 1);
    expect(heard.transitions.at(-1)).toBe('open -> resting: violation');
  });
  test('an alert that is forged is never delivered; the connection is given up and what is good comes again', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say(alertMessage(6));
    world.newest().say(alertMessage(7, { signature: signature('k1', false) }));
    world.newest().say(alertMessage(8));
    await world.settle();
    expect(heard.got).toEqual(['alert 6']);
    expect(heard.events).toEqual([{ name: 'violation', detail: { reason: 'signature', offset: 7, count: 1 } }]);
    expect(heard.transitions.at(-1)).toBe('open -> resting: forged');
    expect(world.newest().left).toBe(true);
    await world.advance(1000);
    expect(world.newest().url.searchParams.get('offset')).toBe('6');
    world.newest().say(welcome(6));
    for (const offset of [7, 8]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7', 'alert 8']);
  });
  test('one that stays forged is passed over at the third try, and nobody is protected any more', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    for (let tries = 0; tries < 3; tries++) {
      world.newest().say(alertMessage(6, { signature: signature('k1', false) }));
      world.newest().say(alertMessage(7));
      await world.advance(tries < 2 ? 5000 : 0);
      if (tries < 2) world.newest().say(welcome(5));
    }
    world.newest().say(watermark(7));
    await world.settle();
    expect(heard.got).toEqual(['alert 7']);
    expect(heard.states.at(-1)).toBe('not-protected: forged');
  });
  test('an offset that is left out is asked for again', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say(alertMessage(7));
    expect(heard.transitions.at(-1)).toBe('open -> resting: hole');
    await world.advance(1000);
    world.newest().say(welcome(5));
    for (const offset of [6, 7]) world.newest().say(alertMessage(offset));
    await world.settle();
    expect(heard.got).toEqual(['alert 6', 'alert 7']);
  });
  test('a watermark beyond what was sent is a hole, too; one that is left out twice is told', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say(watermark(6));
    await world.advance(1000);
    world.newest().say(welcome(5));
    world.newest().say(alertMessage(7));
    await world.settle();
    expect(heard.got).toEqual(['alert 7']);
    expect(heard.events.at(-1)).toMatchObject({ name: 'violation', detail: { reason: 'hole', offset: 6 } });
    world.newest().say(watermark(7));
    await world.settle();
    expect(heard.states.at(-1)).toBe('not-protected: hole');
  });
  test('with a filter offsets may skip', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, { zone: 'z' });
    world.newest().say(alertMessage(70));
    world.newest().say(watermark(90));
    world.newest().end(1006);
    await world.advance(250);
    expect(heard.got).toEqual(['alert 70']);
    expect(world.newest().url.searchParams.get('offset')).toBe('90');
  });
  test('a message of a newer protocol is no violation and no hole', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    world.newest().say({ type: 'weather', offset: 6 });
    world.newest().say(alertMessage(7));
    await world.settle();
    expect(heard.got).toEqual(['alert 7']);
    expect(heard.events).toEqual([]);
  });
});

describe('keys', () => {
  const jwk = (kid: string): object => ({ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid, purpose: 'alert' });

  test('that cannot be had leave an alert waiting, and nobody protected', async () => {
    const world = createWorld();
    world.routes.set('/.well-known/jwks.json', () => null);
    const heard = await watchFrom(world, 5);
    world.newest().say(alertMessage(6));
    await world.advance(5000);
    expect(heard.got).toEqual([]);
    expect(heard.states.at(-1)).toBe('not-protected: no-keys');
    world.routes.set('/.well-known/jwks.json', () => ({ status: 200, body: { keys: [jwk('k1')] } }));
    world.newest().say(watermark(6));
    await world.advance(5000);
    expect(heard.got).toEqual(['alert 6']);
    expect(heard.states.at(-1)).toBe('protected: watermark');
  });
  test('are not asked for any more when the viewer was turned away and nothing waits for them', async () => {
    const world = createWorld();
    world.routes.set('/.well-known/jwks.json', () => null);
    watch(world);
    await world.advance(0);
    world.newest().refuse(403);
    const before = world.asked.length;
    await world.advance(60_000);
    expect([world.asked.length, world.timers()]).toEqual([before, 0]);
  });
  test('are asked for no sooner than the server allows', async () => {
    const world = createWorld();
    world.routes.set('/.well-known/jwks.json', () => ({ status: 429, retryAfter: '50' }));
    watch(world);
    await world.advance(49_999);
    expect(world.asked.filter((line) => line.includes('jwks'))).toHaveLength(1);
  });
  test('that are no points of the curve protect nobody, and pinned ones are not replaced by those of the server', async () => {
    const world = createWorld();
    const importKey = async (): Promise<never> => Promise.reject(new Error('no point'));
    Object.assign(world.env, { subtle: { ...world.env.subtle, importKey } });
    const pinned = { kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid: 'k9' };
    const heard = await watchFrom(world, 5, { trust: { keys: [pinned] } });
    expect(heard.alerts.state).toBe('not-protected');
    world.newest().say(alertMessage(6));
    await world.settle();
    expect([heard.got, world.asked.filter((line) => line.includes('jwks'))]).toEqual([[], []]);
  });
  test('that are new are asked for, at most once in 10 s however many unknown ones are named', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    await world.advance(9000);
    world.routes.set('/.well-known/jwks.json', () => ({ status: 200, body: { keys: [jwk('k1'), jwk('k2')] } }));
    world.newest().say(alertMessage(6, { signature: signature('k2') }));
    await world.advance(999);
    expect(heard.got).toEqual([]);
    await world.advance(1);
    expect(heard.got).toEqual(['alert 6']);
    const asked = (): number => world.asked.filter((line) => line.includes('jwks')).length;
    const before = asked();
    for (let turn = 0; turn < 20; turn++) {
      world.newest().say(alertMessage(7, { signature: signature(`k${turn + 9}`) }));
      await world.advance(1000);
      if (heard.alerts.phase === 'opening') world.newest().say(welcome(6));
    }
    expect(asked() - before).toBeLessThanOrEqual(2);
  });
  test('of another purpose check nothing', async () => {
    const world = createWorld();
    const other = { ...jwk('k1'), purpose: 'token' };
    world.routes.set('/.well-known/jwks.json', () => ({ status: 200, body: { keys: [other, jwk('k2')] } }));
    const heard = await watchFrom(world, 5);
    world.newest().say(alertMessage(6));
    await world.advance(10_000);
    expect(heard.got).toEqual([]);
    expect(heard.events.at(-1)).toMatchObject({ name: 'violation', detail: { reason: 'signature' } });
  });
  test('that are pinned are the only ones, and the server is not asked', async () => {
    const world = createWorld();
    const heard = await watchFrom(world, 5, {
      trust: { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid: 'k2' }] },
    });
    world.newest().say(alertMessage(6, { signature: signature('k2') }));
    world.newest().say(alertMessage(7));
    await world.settle();
    expect(heard.got).toEqual(['alert 6']);
    expect(world.asked).toEqual([]);
    expect(heard.events).toMatchObject([{ name: 'violation' }]);
  });
  test('are of no use without WebCrypto: alerts come with a mark, the state says so, and pinned keys refuse', async () => {
    const world = createWorld(null);
    const heard = watch(world);
    const details: unknown[] = [];
    heard.alerts.on('alert', (_alert, detail) => details.push(detail));
    heard.alerts.on('state', (_state, detail) => details.push(detail));
    await world.advance(0);
    world.newest().say(welcome(5));
    world.newest().say(alertMessage(6));
    await world.settle();
    expect(details).toContainEqual({ reason: 'watermark', verifying: false });
    expect(details).toContainEqual({ source: 'live', verified: false });
    const pinned = watch(world, { trust: { keys: [] } });
    await world.advance(0);
    expect(pinned.events).toEqual([{ name: 'stopped', detail: 'no-webcrypto' }]);
  });
});
