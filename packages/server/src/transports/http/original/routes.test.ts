import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test } from 'vitest';
import type { Authenticators, Scope } from '../access.ts';
import { createHttpServer } from '../server.ts';
import { originalRoutes, type OriginalServices } from './routes.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
const open: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
});

const authenticators: Authenticators = {
  apiKey: async (key) => {
    if (key === undefined) throw refuse('api-key-missing');
    return { kind: 'api-key', id: 'k', scopes: [key as Scope] };
  },
  bearer: async () => ({ kind: 'user', id: 'u', role: 'viewer', sessionId: 's', expiresAt: 0 }),
};

const sensor = { id: 4, active: true, zoneId: 2, latitude: 41.9, longitude: 12.5 };
const alert = { id: '01JQ', severity: 'severe', status: 'actual', headline: 'Earthquake', sentAt: NOW } as const;

function services(over: { database?: boolean; bus?: boolean } = {}): OriginalServices & { readonly heard: unknown[] } {
  const heard: unknown[] = [];
  return {
    heard,
    registry: {
      createOrFindOriginalZone: async (city) => ({ zone: { id: 2, city } }),
      createOrFindOriginalDevice: async (request) => {
        heard.push(request);
        return { device: sensor };
      },
      listOriginalZones: async () => [{ id: 2, city: 'Roma' }],
      listOriginalDevices: async () => [
        sensor,
        { ...sensor, id: 5, active: false, zoneId: null, latitude: null, longitude: null },
      ],
    },
    reports: {
      zoneExists: async (id) => id === 'z2',
      listAlerts: async (query) => {
        heard.push(query);
        return [alert, { ...alert, id: '01JP', severity: 'unknown', status: 'exercise' }];
      },
      deviceStatistics: async (id) => {
        if (id === 'm5') return { count: 0, mean: null, min: null, max: null };
        if (id !== 'm4') throw refuse('not-found');
        return { count: 3, mean: 2, min: 1, max: 3 };
      },
      now: () => NOW,
    },
    health: { databaseAnswers: async () => over.database ?? true, busAnswers: () => over.bus ?? true, now: () => NOW },
  };
}

async function server(using: OriginalServices): Promise<FastifyInstance> {
  const log = { error: () => {}, debug: () => {} };
  const app = await createHttpServer({ log, authenticators, trace: (header) => header ?? '' });
  await app.register(originalRoutes(using));
  open.push(app);
  return app;
}

async function call(
  method: 'GET' | 'POST',
  url: string,
  payload?: object,
  key: Scope | null = method === 'POST' ? 'register' : 'read',
  using = services(),
) {
  const app = await server(using);
  const headers = key === null ? {} : { 'x-api-key': key };
  const answer = await app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
  return { status: answer.statusCode, body: answer.json() };
}

const BODY = { active: true, zone_id: 2, latitude: 41.9, longitude: 12.5, public_key_hex: '04ab' };
const SHOWN = { id: 4, active: true, zone_id: 2, latitude: 41.9, longitude: 12.5 };

describe.each(['', '/'])('with "%s" at the end of the path', (slash) => {
  test('a zone is made and listed in the original shapes', async () => {
    expect(await call('POST', `/zones${slash}`, { city: 'Roma' })).toEqual({
      status: 201,
      body: { id: 2, city: 'Roma' },
    });
    expect(await call('GET', `/zones${slash}`)).toEqual({ status: 200, body: [{ id: 2, city: 'Roma' }] });
  });

  test('a sensor is registered and listed in the original shapes', async () => {
    const using = services();
    expect(await call('POST', `/misurators${slash}`, BODY, 'register', using)).toEqual({ status: 201, body: SHOWN });
    expect(using.heard).toEqual([{ active: true, zoneId: 2, latitude: 41.9, longitude: 12.5, publicKeyHex: '04ab' }]);
    expect(await call('GET', `/misurators${slash}`)).toEqual({
      status: 200,
      body: [SHOWN, { id: 5, active: false, zone_id: null, latitude: null, longitude: null }],
    });
  });

  test('the alerts of a zone are a bare array with numbers for severities, and drills say so', async () => {
    const using = services();
    expect(await call('GET', `/zones/2/alerts${slash}?limit=7`, undefined, 'read', using)).toEqual({
      status: 200,
      body: [
        { id: '01JQ', zone_id: 2, timestamp: '2026-01-02T03:04:05.006Z', severity: 3, message: 'Earthquake' },
        { id: '01JP', zone_id: 2, timestamp: '2026-01-02T03:04:05.006Z', severity: 0, message: 'EXERCISE: Earthquake' },
      ],
    });
    expect(using.heard).toEqual([{ zoneId: 'z2', limit: 7 }]);
  });

  test('the statistics of a sensor come in the original shape', async () => {
    expect(await call('GET', `/sensors/4/statistics${slash}`)).toEqual({
      status: 200,
      body: {
        misurator_id: 4,
        total_readings: 3,
        average_value: 2,
        max_recorded: 3,
        min_recorded: 1,
        generated_at: '2026-01-02T03:04:05.006Z',
      },
    });
    expect((await call('GET', `/sensors/5/statistics${slash}`)).body).toMatchObject({
      total_readings: 0,
      average_value: null,
    });
  });

  test('health needs no key and names both services', async () => {
    expect(await call('GET', `/health${slash}`, undefined, null)).toEqual({
      status: 200,
      body: {
        status: 'healthy',
        timestamp: '2026-01-02T03:04:05.006Z',
        services: { database: 'connected', redis: 'connected' },
      },
    });
  });
});

test('a service that is away makes health degraded, still with 200', async () => {
  expect(await call('GET', '/health', undefined, null, services({ database: false }))).toMatchObject({
    status: 200,
    body: { status: 'degraded', services: { database: 'disconnected', redis: 'connected' } },
  });
  expect(await call('GET', '/health', undefined, null, services({ bus: false }))).toMatchObject({
    body: { status: 'degraded', services: { database: 'connected', redis: 'disconnected' } },
  });
});

test.each([
  ['a key without the scope register', 'POST', '/zones/', { city: 'Roma' }, 'read', 403, 'scope-insufficient'],
  ['no key', 'POST', '/misurators/', BODY, null, 401, 'api-key-missing'],
  ['neither key nor token', 'GET', '/zones/', undefined, null, 401, 'credentials-missing'],
  ['an unknown zone', 'GET', '/zones/3/alerts', undefined, 'read', 404, 'not-found'],
  ['an unknown sensor', 'GET', '/sensors/9/statistics', undefined, 'read', 404, 'not-found'],
  ['a zone that is no integer', 'GET', '/zones/x/alerts', undefined, 'read', 400, 'malformed-parameter'],
  ['a limit out of bounds', 'GET', '/zones/2/alerts?limit=501', undefined, 'read', 400, 'malformed-parameter'],
  ['a parameter that nobody knows', 'GET', '/zones/2/alerts?wat=1', undefined, 'read', 400, 'malformed-parameter'],
] as const)('%s is refused', async (_name, method, url, payload, key, status, code) => {
  expect(await call(method, url, payload, key)).toMatchObject({ status, body: { code } });
});

test.each([
  ['/zones/', { city: '' }, '/city'],
  ['/zones/', { city: 5 }, '/city'],
  ['/zones/', {}, '/city'],
  ['/zones/', { city: 'Roma', wat: 1 }, '/wat'],
  ['/misurators/', { ...BODY, latitude: 91 }, '/latitude'],
  ['/misurators/', { ...BODY, zone_id: '2' }, '/zone_id'],
  ['/misurators/', { ...BODY, active: 1 }, '/active'],
  ['/misurators/', { ...BODY, public_key_hex: undefined }, '/public_key_hex'],
])('POST %s %j is 422 and points at %s', async (url, payload, pointer) => {
  const { status, body } = await call('POST', url, payload);
  expect(status).toBe(422);
  expect([...new Set(body.errors.map((error: { pointer: string }) => error.pointer))]).toEqual([pointer]);
});
