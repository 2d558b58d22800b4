/** The contract's section 3 over HTTP: bodies and paths made to hurt, statistics, the description of the interface. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, expectRefusal, openRaw, type Reply } from './contract-client.suite.ts';
import { type Contract, envelope, fresh, openContract } from './contract-system.suite.ts';

let contract: Contract;
let app: Contract['app'];
let { go, admin, register, sendJson, counted } = {} as Contract;

beforeAll(async () => {
  contract = await openContract();
  ({ app, go, admin, register, sendJson, counted } = contract);
});
afterAll(() => app?.stop());

describe('3. JSON that is made to hurt', () => {
  test('no text in a path, a query or a body makes an error of ours', async () => {
    const paths = [
      '/v1/users/%00',
      '/v1/users/..%2f',
      '/v1/api-keys/%00',
      `/v1/users/${'x'.repeat(400)}`,
      '/v1/alerts/%00',
      '/v1/alerts/x',
      '/v1/zones/%00',
      '/v1/devices/%E2%98%83',
      '/v1/devices/%00/statistics',
      '/v1/zones/%00/statistics',
      '/zones/%00/alerts',
      '/zones/x/alerts',
      '/zones/999999999999999/alerts',
      '/sensors/1e3/statistics',
      '/sensors/999999999999999/statistics',
      '/v1/users/%F0%9F',
      '//v1/zones',
      '/v1/zones/',
      '/V1/zones',
      '/v1/zones/..',
      '/v1/alerts?since=1e9',
      '/v1/alerts?zone=%27%20OR%201',
      '/v1/alerts?since=999999999999999',
      '/v1/alerts?until=-999999999999999',
    ];
    for (const path of paths) {
      for (const method of ['GET', 'DELETE', 'PATCH']) {
        const reply = await go(path, {
          method,
          token: app.token,
          ...(method === 'PATCH' ? { body: { email: 'a@b.example' } } : {}),
        });
        expect([method, path, reply.status < 500]).toEqual([method, path, true]);
        if (reply.status >= 400) expectRefusal(reply, reply.status);
      }
    }
    const odd = [
      '\ud800',
      '\u0000',
      '\u202e',
      '\ufeff',
      'x'.repeat(250_000),
      '%00',
      '{zone}',
      '$1',
      "'; DROP TABLE zones; --",
    ];
    for (const text of odd) {
      for (const [path, body] of [
        ['/v1/zones', { id: fresh('odd'), name: text }],
        ['/v1/users', { email: `${text}@example.org`, password: 'long enough for all', role: 'viewer' }],
        ['/v1/users', { email: `${fresh('odd')}@example.org`, password: `long enough ${text}`, role: 'viewer' }],
        ['/v1/api-keys', { name: text }],
        ['/v1/devices', { id: fresh('odd'), profile: 'host', publicKey: text }],
        ['/v1/alerts', { severity: 'minor', headline: text }],
        ['/v1/alerts', { severity: 'minor', headline: 'x', description: text }],
        ['/v1/auth/login', { email: text, password: text }],
        ['/v1/auth/refresh', { refresh_token: text, fingerprint: text }],
      ] as const) {
        const reply = await admin('POST', path, body);
        expect([path, JSON.stringify(body).slice(0, 90), reply.status < 500]).toEqual([path, expect.any(String), true]);
      }
    }
  });
  test('what was stored comes back as it went in', async () => {
    for (const name of ['☃', '𝄞', 'a\u0301', '<script>alert(1)</script>', '"quoted" \\ slash', '\ud800 alone']) {
      const made = await admin('POST', '/v1/zones', { id: fresh('back'), name });
      if (made.status === 201) {
        expect(made.json.name).toBe(name);
        expect((await admin('GET', `/v1/zones/${made.json.id}`)).json.name).toBe(name);
      } else expectRefusal(made, 422, 'schema');
    }
  });
  test('__proto__, constructor, broken UTF-8 and deep nesting are refused', async () => {
    const text = (body: string | Buffer): Promise<Reply> =>
      go('/v1/zones', { method: 'POST', token: app.token, body, headers: { 'content-type': 'application/json' } });
    expectRefusal(await text('{"__proto__":{"x":1},"id":"p","name":"p"}'), 400, 'malformed-json');
    expectRefusal(await text('{"constructor":{"prototype":{"x":1}},"id":"p","name":"p"}'), 400, 'malformed-json');
    expectRefusal(
      await text(Buffer.from([...Buffer.from('{"id":"utf8","name":"'), 0xff, 0xfe, ...Buffer.from('"}')])),
      400,
      'malformed-json',
    );
    expectRefusal(await text('['.repeat(100_000) + ']'.repeat(100_000)), 422, 'schema');
    expectRefusal(await text('{"a":'.repeat(40_000) + '1' + '}'.repeat(40_000)), 422, 'schema');
    expectRefusal(await text('{"id":"x","name":"x"} trailing'), 400, 'malformed-json');
    for (const empty of ['', ' ', 'null']) expect((await text(empty)).status).toBeGreaterThanOrEqual(400);
    expect(
      (
        await go('/v1/zones', {
          method: 'POST',
          token: app.token,
          body: '{"id":"json-utf8","name":"x"}',
          headers: { 'content-type': 'application/json; charset=UTF-8' },
        })
      ).status,
    ).toBe(201);
    expectRefusal(
      await go('/v1/zones', {
        method: 'POST',
        token: app.token,
        body: '{"id":"x","name":"x"}',
        headers: { 'content-type': 'text/json' },
      }),
      415,
      'content-type',
    );
  });
  test('requests that come at once on one connection are answered in order', async () => {
    const socket = await openRaw(app.base);
    socket.write(
      'GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/zones HTTP/1.1\r\nHost: a\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n',
    );
    expect((await socket.answers(4)).map(({ status }) => status)).toEqual([200, 404, 401, 200]);
    socket.socket.destroy();
  });
});

describe('3. statistics', () => {
  const at = Math.floor(Date.now() / 60_000) * 60_000 - 3_600_000;
  const keys = ['count', 'mean', 'min', 'max', 'standardDeviation', 'p50', 'p95', 'p99', 'firstAt', 'lastAt'];
  beforeAll(async () => {
    await admin('POST', '/v1/zones', { id: 'stat', name: 'stat' });
    const one = await register('stat-1', 'seismic', { zoneId: 'stat' });
    const readings = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((value, i) => ({ at: at + i * 1000, value }));
    expect((await sendJson(envelope({ readings }), one)).status).toBe(202);
    const packet = { at: at + 20_000, rate: 100, x: [1, -12, 3], y: [0, 0, 0], z: [4, 4, 4] };
    expect((await sendJson(envelope({ readings: [packet] }), one)).status).toBe(202);
    const host = await register('stat-h', 'host', { zoneId: 'stat' });
    expect(
      (
        await sendJson(
          envelope({
            profile: 'host',
            readings: [{ at, cpu_percent: 50, mem_percent: 20, disk_percent: 30, gpu_percent: 7 }],
          }),
          host,
        )
      ).status,
    ).toBe(202);
    await counted('/v1/devices/stat-1/statistics', 11);
    await counted('/v1/devices/stat-h/statistics', 1);
  });
  const read = async (path: string): Promise<Record<string, number>> => (await go(path, { token: app.token })).json;

  test('the ten numbers, of the values and of packets’ peaks', async () => {
    const all = await read('/v1/devices/stat-1/statistics');
    expect(Object.keys(all)).toEqual(keys);
    const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12];
    const mean = values.reduce((a, b) => a + b) / 11;
    expect(all).toMatchObject({ count: 11, min: 1, max: 12, p50: 6, firstAt: at, lastAt: at + 20_000 });
    expect(all['mean']).toBeCloseTo(mean, 9);
    expect(all['standardDeviation']).toBeCloseTo(
      Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 11),
      9,
    );
  });
  test('from and to are Unix ms or ISO 8601, with an offset or in UTC', async () => {
    const [from, to] = [at + 2000, at + 5000];
    const expected = await read(`/v1/devices/stat-1/statistics?from=${from}&to=${to}`);
    expect(expected).toMatchObject({ count: 3, min: 3, max: 5 });
    const iso = (time: number): string => new Date(time).toISOString();
    const rome = `${iso(from + 3_600_000).slice(0, 19)}+01:00`;
    for (const text of [
      iso(from),
      iso(from).replace('.000Z', 'Z'),
      encodeURIComponent(rome),
      rome,
      iso(from).replace('Z', ''),
    ]) {
      expect(await read(`/v1/devices/stat-1/statistics?from=${text}&to=${iso(to)}`)).toEqual(expected);
    }
    expect(await read(`/v1/devices/stat-1/statistics?to=${at}`)).toEqual({
      count: 0,
      mean: null,
      min: null,
      max: null,
      standardDeviation: null,
      p50: null,
      p95: null,
      p99: null,
      firstAt: null,
      lastAt: null,
    });
    for (const query of [
      'from=x',
      'from=',
      'to=2026-13-01',
      'to=2026-02-30',
      'from=2026-11-20T25:00:00Z',
      'from=1.5',
      `from=${to}&to=${from}`,
      'from=1e12',
      'bucket=0',
      'bucket=-5',
      'bucket=x',
      'bucket=1.5',
      'field=nothing',
      'field=',
      'field=__proto__',
      'field=cpu_percent%27',
      'other=1',
      'from=1&from=2',
    ]) {
      expectRefusal(
        await go(`/v1/devices/stat-1/statistics?${query}`, { token: app.token }),
        400,
        'malformed-parameter',
      );
    }
  });
  test('a bucket makes a list', async () => {
    const list = (await go(`/v1/devices/stat-1/statistics?bucket=5&from=${at}&to=${at + 60_000}`, { token: app.token }))
      .json;
    expect(Array.isArray(list)).toBe(true);
    expect(list.map((part: Record<string, number>) => [part['from'], part['count']])).toEqual([
      [at, 5],
      [at + 5000, 5],
      [at + 20_000, 1],
    ]);
    for (const part of list) expect(Object.keys(part)).toEqual(['from', ...keys]);
    expect((await go(`/v1/devices/stat-1/statistics?bucket=5&to=${at}`, { token: app.token })).json).toEqual([]);
  });
  test('a field of the profile, and the field of each profile when none is named', async () => {
    expect(await read('/v1/devices/stat-h/statistics')).toMatchObject({ count: 1, mean: 50 });
    expect(await read('/v1/devices/stat-h/statistics?field=gpu_percent')).toMatchObject({ count: 1, mean: 7 });
    expect(await read('/v1/devices/stat-h/statistics?field=agent_mem_mb')).toMatchObject({ count: 0, mean: null });
    expectRefusal(
      await go('/v1/devices/stat-h/statistics?field=value', { token: app.token }),
      400,
      'malformed-parameter',
    );
    expect(await read('/v1/zones/stat/statistics?field=cpu_percent')).toMatchObject({ count: 1, mean: 50 });
    expect(await read('/v1/zones/stat/statistics?field=value')).toMatchObject({ count: 11, max: 12 });
    expectRefusal(await go('/v1/zones/nowhere/statistics', { token: app.token }), 404, 'not-found');
    expectRefusal(await go('/v1/devices/nowhere/statistics', { token: app.token }), 404, 'not-found');
  });
  test('/statistics is of seismic values, its count of everything', async () => {
    const range = `from=${at}&to=${at + 60_000}`;
    const all = (await go(`/statistics?${range}`, { key: app.apiKey })).json;
    expect(Object.keys(all)).toEqual(keys);
    expect(all).toMatchObject({ count: 12, min: 1, max: 12 });
    expect((await go(`/statistics?${range}&field=cpu_percent`, { key: app.apiKey })).json).toMatchObject({
      count: 1,
      mean: 50,
    });
    expect((await go(`/statistics?${range}&bucket=60`, { key: app.apiKey })).json).toHaveLength(1);
  });
});

describe('the description of the interface', () => {
  test('/openapi.json names every route under /v1 and what each takes', async () => {
    const { json } = await go('/openapi.json');
    expect(json.openapi).toMatch(/^3\.1\./);
    const wanted: Record<string, string[]> = {
      '/v1/readings': ['post'],
      '/v1/zones': ['get', 'post'],
      '/v1/zones/{id}': ['get', 'patch', 'delete'],
      '/v1/zones/{id}/statistics': ['get'],
      '/v1/devices': ['get', 'post'],
      '/v1/devices/{id}': ['get', 'patch', 'delete'],
      '/v1/devices/{id}/statistics': ['get'],
      '/v1/users': ['get', 'post'],
      '/v1/users/{id}': ['get', 'patch', 'delete'],
      '/v1/api-keys': ['get', 'post'],
      '/v1/api-keys/{id}': ['delete'],
      '/v1/alerts': ['get', 'post'],
      '/v1/alerts/{id}': ['get'],
      '/v1/alerts/{id}/acknowledge': ['post'],
      '/v1/alerts/{id}/delivery': ['get'],
      '/v1/alerts/{id}/resolve': ['post'],
      '/v1/auth/login': ['post'],
      '/v1/auth/refresh': ['post'],
      '/v1/auth/logout': ['post'],
      '/v1/auth/session': ['get'],
      '/v1/auth/ticket': ['post'],
      '/statistics': ['get'],
      '/zones/': ['get', 'post'],
      '/misurators/': ['get', 'post'],
      '/misurations/': ['post'],
    };
    for (const [path, methods] of Object.entries(wanted)) {
      for (const method of methods) {
        const operation = json.paths[path]?.[method];
        expect([path, method, operation?.summary]).toEqual([path, method, expect.any(String)]);
        expect([path, method, Object.keys(operation.responses).some((status) => status.startsWith('2'))]).toEqual([
          path,
          method,
          true,
        ]);
        expect(operation.responses.default?.content).toHaveProperty(['application/problem+json']);
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
        const described = (operation.parameters ?? []).filter((parameter: { in: string }) => parameter.in === 'path');
        expect(described.map((parameter: { name: string }) => parameter.name)).toEqual(inPath);
        expect([path, method, Array.isArray(operation.security)]).toEqual([path, method, true]);
      }
    }
    expect(json.paths['/v1/readings'].post.requestBody.content).toHaveProperty(['application/jose']);
    expect(json.paths['/misurations/'].post.requestBody.content).toHaveProperty(['application/json']);
    expect(Object.keys(json.paths).filter((path) => path.startsWith('/v1') && wanted[path] === undefined)).toEqual([]);
  });
  test('/docs is a page, and all that it loads is there', async () => {
    const page = await ask(`${app.base}/docs`);
    const html = page.status === 200 ? page : await ask(new URL(String(page.headers['location']), app.base).href);
    expect(html.headers['content-type']).toMatch(/^text\/html/);
    const files = [...html.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(
      ([, file]) => new URL(file ?? '', `${app.base}/docs/`).href,
    );
    expect(files.length).toBeGreaterThan(3);
    for (const file of files) expect([file, (await ask(file)).status]).toEqual([file, 200]);
  });
});
