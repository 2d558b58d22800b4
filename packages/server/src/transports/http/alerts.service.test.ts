import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import type { Alert } from '@tocsin/protocol/alert';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { refuse } from '@tocsin/protocol/refusal-error';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toCap } from '../../alerts/cap.ts';
import { capFaults } from '../../alerts/cap-schema.suite.ts';
import { fingerprint } from '../../alerts/fingerprint.ts';
import { createLedger, type Ledger } from '../../alerts/ledger.ts';
import { createIdFactory } from '../../lib/ulid.ts';
import { createAlertStore } from '../../store/postgres/alerts.ts';
import { createChannelStore } from '../../store/postgres/channels.ts';
import type { Role } from './access.ts';
import { alertRoutes } from './alerts.ts';
import { createHttpServer } from './server.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicKey = createPublicKey({ key: pair.publicKey.export({ format: 'jwk' }), format: 'jwk' });
const NOW = Date.UTC(2026, 10, 20, 12);

describe.each(engines)('alerts over HTTP on %s', (engine) => {
  let database: TestDatabase;
  let ledger: Ledger;
  let app: FastifyInstance;

  beforeAll(async () => {
    database = await openTestDatabase(engine);
    const alerts = createAlertStore(database.db);
    ledger = createLedger({
      db: database.db,
      alerts,
      channels: createChannelStore(database.db),
      signer: () => ({ kid: 'k1', privateKey: pair.privateKey }),
      ids: createIdFactory(),
      publish: () => undefined,
      events: { acted: () => undefined, publishFailed: () => undefined },
    });
    app = await createHttpServer({
      log: { error: () => undefined, debug: () => undefined },
      trace: () => '00-00000000000000000000000000000001-0000000000000001-01',
      authenticators: {
        apiKey: () => Promise.reject(refuse('api-key-unknown')),
        bearer: async (authorization) => {
          const role = authorization?.replace('Bearer ', '');
          if (role === undefined) throw refuse('credentials-missing');
          return { kind: 'user', id: 'u1', role: role as Role, sessionId: 's1', expiresAt: NOW + 1e9 };
        },
      },
    });
    alertRoutes(app, {
      get: alerts.get,
      list: alerts.list,
      act: ledger.act,
      drill: ledger.drill,
      toCap: (record, zoneName) => toCap(record, { publicUrl: 'https://alerts.example.org', zoneName }),
      zone: async (id) => (id === 'z1' ? { name: 'Catania <1>' } : null),
      now: () => NOW,
    });
    await app.ready();
  });

  afterAll(async () => {
    await app.close();
    await database.close();
  });

  beforeEach(async () => {
    await database.db.execute('TRUNCATE alerts, channel_messages');
    await database.db.execute('UPDATE channels SET head = 0');
  });

  function finding(n: number, change: Partial<AlertFinding> = {}): AlertFinding {
    return {
      kind: 'seismic.swarm',
      severity: 'severe',
      status: 'actual',
      headline: `Alarm ${n}`,
      description: '',
      zoneId: 'z1',
      deviceId: null,
      latitude: 37.5,
      longitude: 15.087,
      onset: n,
      fingerprint: fingerprint('seismic.swarm', 'zone:z1', n),
      evidence: { sensors: 50 },
      ...change,
    };
  }

  const raise = async (n: number, change: Partial<AlertFinding> = {}): Promise<Alert> => {
    const [message] = await database.db.transaction((tx) => ledger.raise(tx, [finding(n, change)], NOW + n));
    if (message === undefined) throw new Error('nothing was raised');
    return message.alert;
  };

  interface Answer {
    readonly status: number;
    readonly headers: Readonly<Record<string, unknown>>;
    readonly body: string;
    readonly json: Record<string, unknown> & { items?: Alert[]; next?: string | null; errors?: unknown[] };
  }

  async function ask(
    method: 'GET' | 'POST',
    url: string,
    role: Role = 'viewer',
    options: { accept?: string; content?: object } = {},
  ): Promise<Answer> {
    const headers = {
      authorization: `Bearer ${role}`,
      ...(options.accept === undefined ? {} : { accept: options.accept }),
    };
    const response = await app.inject({
      method,
      url,
      headers,
      ...(options.content === undefined ? {} : { payload: options.content }),
    });
    const isJson = String(response.headers['content-type']).includes('json');
    return {
      status: response.statusCode,
      headers: response.headers,
      body: response.body,
      json: isJson ? response.json() : {},
    };
  }

  const headlines = async (query: string): Promise<string[]> =>
    ((await ask('GET', `/v1/alerts?${query}`)).json.items ?? []).map((alert) => alert.headline);

  describe('a list', () => {
    test('is newest first, in pages that neither repeat nor skip while new alerts come', async () => {
      for (let n = 1; n <= 5; n += 1) await raise(n);
      const first = await ask('GET', '/v1/alerts?limit=2');
      await raise(6);
      const second = await ask('GET', `/v1/alerts?limit=2&cursor=${first.json.next}`);
      const third = await ask('GET', `/v1/alerts?limit=2&cursor=${second.json.next}`);
      const shown = [first, second, third].flatMap((page) => (page.json.items ?? []).map((alert) => alert.headline));
      expect(shown).toEqual(['Alarm 5', 'Alarm 4', 'Alarm 3', 'Alarm 2', 'Alarm 1']);
      expect(third.json.next).toBeNull();
    });

    test('is filtered by every parameter, alone and together', async () => {
      await raise(1, { zoneId: 'z2', severity: 'minor' });
      await raise(2, { kind: 'host.cpu', zoneId: null, deviceId: 'd1' });
      const third = await raise(3);
      await ledger.act(third.id, 'acknowledge', 'u1', NOW);
      expect(await headlines('zone=z2')).toEqual(['Alarm 1']);
      expect(await headlines('device=d1')).toEqual(['Alarm 2']);
      expect(await headlines('kind=seismic.swarm')).toEqual(['Alarm 3', 'Alarm 1']);
      expect(await headlines('severity=minor')).toEqual(['Alarm 1']);
      expect(await headlines('state=acknowledged')).toEqual(['Alarm 3']);
      expect(await headlines('kind=seismic.swarm&state=open&zone=z1')).toEqual([]);
    });

    test('takes times as Unix ms and as ISO 8601; since is inclusive, until exclusive', async () => {
      for (let n = 1; n <= 3; n += 1) await raise(n * 1000);
      expect(await headlines(`since=${NOW + 2000}`)).toEqual(['Alarm 3000', 'Alarm 2000']);
      expect(await headlines(`until=${NOW + 2000}`)).toEqual(['Alarm 1000']);
      expect(await headlines('since=2026-11-20T12:00:02Z&until=2026-11-20T13:00:03%2B01:00')).toEqual(['Alarm 2000']);
    });

    test('shows alerts that an independent client can verify', async () => {
      await raise(1);
      const [alert] = (await ask('GET', '/v1/alerts')).json.items ?? [];
      expect(checks(alert)).toBe(true);
    });

    test.each([
      'nope=1',
      'severity=worst',
      'state=closed',
      'kind=earthquake',
      'zone=a%20b',
      'since=yesterday',
      'limit=0',
      'limit=501',
      'cursor=x',
      'zone=a&zone=b',
    ])('refuses %s', async (query) => {
      const answer = await ask('GET', `/v1/alerts?${query}`);
      expect([answer.status, answer.json['code']]).toEqual([400, 'malformed-parameter']);
    });
  });

  /** A client of its own: sorts members, joins header and payload, asks node:crypto. Good for alerts with plain evidence. */
  function checks(alert: Alert | undefined): boolean {
    const { signature = '', ...rest } = alert ?? {};
    const sort = (value: object): object =>
      Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
    const payload = JSON.stringify(sort({ ...rest, evidence: sort(alert?.evidence ?? {}) }));
    const [header = '', bytes = ''] = signature.split('..');
    const input = Buffer.from(`${header}.${Buffer.from(payload).toString('base64url')}`);
    return verify('sha256', input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.from(bytes, 'base64url'));
  }

  describe('one alert', () => {
    test('is JSON, the same as in the list, and verifies', async () => {
      const { id } = await raise(1);
      const answer = await ask('GET', `/v1/alerts/${id}`);
      expect(answer.json).toEqual((await ask('GET', '/v1/alerts')).json.items?.[0]);
      expect(checks(answer.json as unknown as Alert)).toBe(true);
      expect(answer.headers['vary']).toBe('Accept');
    });

    test('is CAP 1.2 for who asks for that, with the name of its zone', async () => {
      const { id } = await raise(1);
      await ledger.act(id, 'resolve', 'u1', NOW + 60_000);
      const answer = await ask('GET', `/v1/alerts/${id}`, 'viewer', { accept: 'application/cap+xml' });
      expect(answer.headers['content-type']).toBe('application/cap+xml; charset=utf-8');
      expect(capFaults(answer.body)).toEqual([]);
      expect(answer.body).toContain('<areaDesc>Catania &lt;1&gt;</areaDesc>');
      expect(answer.body).toContain('<msgType>Cancel</msgType>');
      expect(answer.body).toContain(`<references>alerts.example.org,${id}.1,2026-11-20T12:00:00-00:00</references>`);
    });

    test.each(['01ARYZ6S41TSV4RRFFQ69G5FAV', 'x', '%00', 'a%20b'])('that is not there (%s) is 404', async (id) => {
      expect((await ask('GET', `/v1/alerts/${id}`)).json['code']).toBe('not-found');
    });
  });

  describe('an action', () => {
    test('changes the alert once and answers 200 each time', async () => {
      const { id } = await raise(1);
      const first = await ask('POST', `/v1/alerts/${id}/acknowledge`, 'operator');
      const again = await ask('POST', `/v1/alerts/${id}/acknowledge`, 'operator', { content: {} });
      expect([first.status, again.status]).toEqual([200, 200]);
      expect(first.json).toMatchObject({ state: 'acknowledged', revision: 2, offset: 2 });
      expect(again.json).toEqual(first.json);
      expect(checks(first.json as unknown as Alert)).toBe(true);
    });

    test('that the table of states forbids is 409', async () => {
      const { id } = await raise(1);
      await ask('POST', `/v1/alerts/${id}/resolve`, 'operator');
      const answer = await ask('POST', `/v1/alerts/${id}/acknowledge`, 'operator');
      expect([answer.status, answer.json['code']]).toEqual([409, 'transition-forbidden']);
    });

    test('needs an operator, an alert, and no content', async () => {
      const { id } = await raise(1);
      expect((await ask('POST', `/v1/alerts/${id}/resolve`, 'viewer')).json['code']).toBe('role-insufficient');
      expect((await ask('POST', '/v1/alerts/01ARYZ6S41TSV4RRFFQ69G5FAV/resolve', 'operator')).json['code']).toBe(
        'not-found',
      );
      expect(
        (await ask('POST', `/v1/alerts/${id}/resolve`, 'operator', { content: { state: 'open' } })).json['code'],
      ).toBe('schema');
      expect((await ask('POST', `/v1/alerts/${id}/reopen`, 'operator')).status).toBe(404);
    });
  });

  describe('an exercise', () => {
    test('is made by an operator and is never actual', async () => {
      const answer = await ask('POST', '/v1/alerts', 'operator', {
        content: { severity: 'extreme', headline: 'Drill', description: 'a\nb', zoneId: 'z1' },
      });
      expect(answer.status).toBe(201);
      expect(answer.headers['location']).toBe(`/v1/alerts/${String(answer.json['id'])}`);
      expect(answer.json).toMatchObject({
        kind: 'operator.drill',
        status: 'exercise',
        state: 'open',
        headline: 'Drill',
        description: 'a b',
        zoneId: 'z1',
        onset: NOW,
      });
      expect(checks(answer.json as unknown as Alert)).toBe(true);
    });

    test.each([
      ['no headline', { severity: 'minor' }],
      ['an unknown severity', { severity: 'worst', headline: 'x' }],
      ['an unknown zone', { severity: 'minor', headline: 'x', zoneId: 'nowhere' }],
      ['a status of its own', { severity: 'minor', headline: 'x', status: 'actual' }],
      ['a headline that is too long', { severity: 'minor', headline: 'x'.repeat(201) }],
      ['control characters', { severity: 'minor', headline: 'a\u0007b' }],
    ])('with %s is 422', async (_name, content) => {
      const answer = await ask('POST', '/v1/alerts', 'operator', { content });
      expect([answer.status, answer.json['code']]).toEqual([422, 'schema']);
      expect(answer.json.errors?.length).toBeGreaterThan(0);
    });

    test('needs an operator', async () => {
      expect(
        (await ask('POST', '/v1/alerts', 'viewer', { content: { severity: 'minor', headline: 'x' } })).status,
      ).toBe(403);
    });
  });
});
