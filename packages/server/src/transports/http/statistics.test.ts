import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { afterEach, expect, test } from 'vitest';
import { createHttpServer } from './server.ts';
import { statisticsRoutes, type AskedStatistics } from './statistics.ts';

const open: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
});

async function ask(url: string, headers: Record<string, string> = { authorization: 'Bearer t' }) {
  const heard: [string, string, AskedStatistics][] = [];
  const hear = async (noun: string, id: string, query: AskedStatistics): Promise<object> => {
    heard.push([noun, id, query]);
    return { count: 0 };
  };
  const app = await createHttpServer({
    log: { error: () => {}, debug: () => {} },
    authenticators: {
      apiKey: async () => ({ kind: 'api-key', id: 'k', scopes: ['ingest'] }),
      bearer: async (authorization) => {
        if (authorization === undefined) throw refuse('credentials-missing');
        return { kind: 'user', id: 'u', role: 'viewer', sessionId: 's', expiresAt: 0 };
      },
    },
    trace: (header) => header ?? '',
  });
  await app.register(
    statisticsRoutes({
      device: (id, query) => hear('device', id, query),
      zone: (id, query) => hear('zone', id, query),
      everything: (query) => hear('everything', '', query),
    }),
  );
  open.push(app);
  const answer = await app.inject({ url, headers });
  return { status: answer.statusCode, code: answer.json().code as string | undefined, heard };
}

test('times are Unix ms or ISO 8601, a bucket is in seconds', async () => {
  const { status, heard } = await ask(
    '/v1/devices/d-1/statistics?from=1700000000000&to=2026-01-02T00:00:00Z&field=value&bucket=60',
  );
  expect(status).toBe(200);
  expect(heard).toEqual([
    ['device', 'd-1', { from: 1_700_000_000_000, to: Date.UTC(2026, 0, 2), field: 'value', bucket: 60 }],
  ]);
  expect((await ask('/v1/zones/z1/statistics')).heard).toEqual([['zone', 'z1', {}]]);
});

test('statistics of everything take any API key or a bearer; those of a device or zone a bearer', async () => {
  expect((await ask('/statistics', { 'x-api-key': 'k' })).status).toBe(200);
  expect((await ask('/statistics')).status).toBe(200);
  expect((await ask('/statistics', {})).status).toBe(401);
  expect((await ask('/v1/zones/z1/statistics', { 'x-api-key': 'k' })).status).toBe(401);
  expect((await ask('/v1/devices/d1/statistics', { 'x-api-key': 'k' })).status).toBe(401);
});

test.each(['from=yesterday', 'to=', 'bucket=0', 'bucket=1.5', 'bucket=31536001', 'wat=1', 'from=1&from=2'])(
  'the query %s is refused',
  async (query) => {
    expect(await ask(`/statistics?${query}`)).toMatchObject({ status: 400, code: 'malformed-parameter', heard: [] });
  },
);
