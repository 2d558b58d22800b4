import { describe, expect, test } from 'vitest';
import { accessToken, CredentialsError, login, tickets } from './credentials.ts';
import type { Ask, Reply } from './http.ts';
import { createWorld, watch, welcome } from './world.suite.ts';

const pairOf = (number: number, seconds = 900): Reply => ({
  status: 200,
  body: { access_token: `access${number}`, refresh_token: `refresh${number}`, expires_in: seconds },
  retryAfterMs: null,
});
const status = (code: number, retryAfterMs: number | null = null): Reply => ({ status: code, body: {}, retryAfterMs });

/** A server of tokens: answers in this order. */
function tokens(...replies: (Reply | null)[]): { ask: Ask; asked: string[]; now: number; monotonic: () => number } {
  const bench = {
    now: 0,
    asked: [] as string[],
    monotonic: () => bench.now,
    ask: async ({ path, body }: { path: string; body?: object }) => {
      bench.asked.push(`${path} ${JSON.stringify(body)}`);
      await Promise.resolve();
      return replies.shift() ?? null;
    },
  };
  return bench;
}
const credentialsError = (message: string): object => ({
  name: 'error',
  detail: { during: 'connection', error: expect.objectContaining({ name: 'CredentialsError', message }) as unknown },
});
const person = { email: 'a@b.test', password: 'secret' };
const SIGN_IN = 'v1/auth/login {"email":"a@b.test","password":"secret"}';

describe('e-mail and password', () => {
  test('sign in once, and use the token while it lives', async () => {
    const bench = tokens(pairOf(1));
    const credentials = login(person);
    expect(await credentials.secret('connect', bench)).toBe('access1');
    bench.now = 700_000;
    expect(await credentials.secret('connect', bench)).toBe('access1');
    expect(bench.asked).toEqual([SIGN_IN]);
  });
  test('refresh before the token ends: earlier when it has to last on an open connection', async () => {
    const bench = tokens(pairOf(1), pairOf(2), pairOf(3));
    const credentials = login(person);
    await credentials.secret('connect', bench);
    bench.now = 460_000;
    expect(await credentials.secret('reauthenticate', bench)).toBe('access2');
    bench.now += 730_000;
    expect(await credentials.secret('connect', bench)).toBe('access3');
    expect(bench.asked.slice(1)).toEqual([
      'v1/auth/refresh {"refresh_token":"refresh1"}',
      'v1/auth/refresh {"refresh_token":"refresh2"}',
    ]);
  });
  test('are one request for however many want a token at once', async () => {
    const bench = tokens(pairOf(1), pairOf(2));
    const credentials = login(person);
    const all = await Promise.all(
      ['connect', 'connect', 'refused'].map((need) => credentials.secret(need as 'connect', bench)),
    );
    expect(all).toEqual(['access1', 'access1', 'access1']);
    const again = await Promise.all([credentials.secret('refused', bench), credentials.secret('refused', bench)]);
    expect(again).toEqual(['access2', 'access2']);
    expect(bench.asked).toHaveLength(2);
  });
  test('sign in again when the refresh token is not taken any more', async () => {
    const bench = tokens(pairOf(1), status(401), pairOf(2));
    const credentials = login(person);
    await credentials.secret('connect', bench);
    expect(await credentials.secret('refused', bench)).toBe('access2');
    expect(bench.asked[2]).toBe(SIGN_IN);
  });
  test('have no token when the session is gone and the sign-in does not answer', async () => {
    const bench = tokens(pairOf(1), status(401), status(503));
    const credentials = login(person);
    await credentials.secret('connect', bench);
    await expect(credentials.secret('refused', bench)).rejects.toMatchObject({ final: false });
  });
  test.each([null, status(503), status(429)])(
    'keep a token that still lives when the refresh is not answered (%j)',
    async (reply) => {
      const bench = tokens(pairOf(1), reply, reply);
      const credentials = login(person);
      await credentials.secret('connect', bench);
      bench.now = 800_000;
      expect(await credentials.secret('reauthenticate', bench)).toBe('access1');
      bench.now = 901_000;
      await expect(credentials.secret('connect', bench)).rejects.toMatchObject({ final: false });
    },
  );
  test('sign in anew, while a connection is open, when the refresh token may be spent: it would end the session', async () => {
    const bench = tokens(pairOf(1), null, pairOf(2));
    const credentials = login(person);
    await credentials.secret('connect', bench);
    bench.now = 800_000;
    expect(await credentials.secret('reauthenticate', bench)).toBe('access1');
    expect(await credentials.secret('reauthenticate', bench)).toBe('access2');
    expect(bench.asked[2]).toBe(SIGN_IN);
  });
  test('wait as long as the refresh was told to', async () => {
    const bench = tokens(pairOf(1), status(429, 7000));
    const credentials = login(person);
    await credentials.secret('connect', bench);
    await expect(credentials.secret('refused', bench)).rejects.toMatchObject({ final: false, retryAfterMs: 7000 });
  });
  test.each([
    [401, true],
    [422, true],
    [429, false],
    [503, false],
  ])('that are answered with %i are final: %s', async (code, final) => {
    const failed = login(person).secret('connect', tokens(status(code, 5000)));
    await expect(failed).rejects.toBeInstanceOf(CredentialsError);
    await expect(failed).rejects.toMatchObject({ final, retryAfterMs: 5000 });
    await expect(failed).rejects.not.toMatchObject({ message: expect.stringContaining('secret') });
  });
  test('are a loss of the network when nobody answers: asked again within five seconds, and no error', async () => {
    const world = createWorld();
    const credentials = login(person);
    world.routes.set('/v1/auth/login', () => null);
    const heard = watch(world, { credentials });
    await world.advance(120_000);
    expect(new Set(heard.transitions.filter((text) => text.startsWith('opening')))).toEqual(
      new Set(['opening -> resting: network']),
    );
    expect(heard.transitions.length / 2).toBeGreaterThan(120 / 5.1);
    expect(heard.events).toEqual([]);
  });
  test('that are wrong stop the viewer; a server that is away does not', async () => {
    const world = createWorld();
    world.routes.set('/v1/auth/login', () => ({ status: 503, retryAfter: '3' }));
    const heard = watch(world, { credentials: login(person) });
    await world.advance(3000);
    expect(heard.transitions.at(-1)).toBe('opening -> resting: credentials');
    world.routes.set('/v1/auth/login', () => ({ status: 401 }));
    await world.advance(5000);
    expect(heard.events).toEqual([
      credentialsError('sign-in was answered with 503'),
      credentialsError('sign-in was answered with 401'),
      { name: 'stopped', detail: 'credentials' },
    ]);
    expect(world.sockets).toEqual([]);
  });
});

test('an application without a token ends its viewer', async () => {
  for (const nothing of [null, '']) {
    const world = createWorld();
    const heard = watch(world, { credentials: accessToken(() => nothing) });
    await world.advance(0);
    expect(heard.events).toEqual([{ name: 'stopped', detail: 'credentials' }]);
    expect(world.sockets).toEqual([]);
  }
});

describe('tickets', () => {
  test('are a new one for each connection, in the URL, and no bearer', async () => {
    const world = createWorld();
    let number = 0;
    watch(world, { credentials: tickets(() => `t${++number}`) });
    await world.advance(0);
    world.newest().say(welcome(5));
    world.newest().end(1006);
    await world.advance(250);
    expect(world.sockets.map(({ url }) => url.searchParams.get('ticket'))).toEqual(['t1', 't2']);
    expect(world.newest().bearer).toBeNull();
  });
  test('that the application cannot get are its error, and tried again', async () => {
    const world = createWorld();
    let failures = 2;
    const credentials = tickets(() => {
      if (failures-- > 0) throw new Error('no ticket');
      return 't';
    });
    const heard = watch(world, { credentials });
    await world.advance(10_000);
    expect(heard.events).toHaveLength(2);
    expect(heard.events[0]).toEqual({ name: 'error', detail: { during: 'connection', error: new Error('no ticket') } });
    expect(world.sockets).toHaveLength(1);
  });
});
