/** Who got an alert: `GET /v1/alerts/{id}/delivery`, over all processes of an installation. */
import { openDatabase } from '@tocsin/server/store/pool';
import type { Database } from '@tocsin/server/store/ports/database';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { newPerson } from './contract-viewer.ts';
import { type Answer, call, postJson } from './device.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { startTestApp, type TestApp } from './test-app.ts';
import { connectViewer, type ScriptedViewer, type ViewerOptions } from './viewer.ts';

type Report = Record<string, unknown> & { readonly revisions: readonly Record<string, unknown>[] };

const TIMES = ['firstSentAt', 'lastSentAt', 'firstReceivedAt', 'lastReceivedAt'];
const COUNTS = ['kept', 'at', 'connected', 'sent', 'resent', 'received', ...TIMES, 'sendMs', 'receiveMs'];
const PERCENTILES = ['p50', 'p95', 'p99', 'max'];

async function drill(base: string, token: string, more: object = {}): Promise<{ id: string; offset: number }> {
  const answer = await postJson(`${base}/v1/alerts`, { severity: 'minor', headline: 'drill', ...more }, { token });
  expect(answer.status).toBe(201);
  return { id: String(answer.body?.['id']), offset: Number(answer.body?.['offset']) };
}

function ask(base: string, token: string | null, id: string, query = ''): Promise<Answer> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  return call(`${base}/v1/alerts/${id}/delivery${query}`, { headers });
}

async function report(base: string, token: string, id: string): Promise<Report> {
  const answer = await ask(base, token, id);
  expect(answer.status).toBe(200);
  return answer.body as unknown as Report;
}

function watch(base: string, query = '', more: ViewerOptions = {}): Promise<ScriptedViewer> {
  return connectViewer(`${base.replace('http', 'ws')}/ws/alerts${query}`, more);
}

/** Waits for the message, says that it came. */
async function receive(viewer: ScriptedViewer, offset: number): Promise<void> {
  await viewer.until((message) => message.offset === offset && message.data !== undefined);
  viewer.send({ type: 'received', offset });
}

describe('the delivery of an alert', () => {
  let app: TestApp;
  let db: Database;
  beforeAll(async () => {
    app = await startTestApp({ WS_PUBLIC_ALERTS: 'true', WS_RECONNECTS_PER_MINUTE: '1000' });
    db = openDatabase(app.databaseUrl);
  });
  afterAll(async () => {
    await db?.close();
    await app?.stop();
  });

  const settled = async (id: string, expected: object): Promise<Report> => {
    await expect.poll(() => report(app.base, app.token, id), { timeout: 10_000 }).toMatchObject(expected);
    return report(app.base, app.token, id);
  };

  test('is for viewers to read, of alerts that exist', async () => {
    const { id } = await drill(app.base, app.token);
    const { token } = await newPerson(app.base, app.token, 'viewer');
    expect((await ask(app.base, token, id)).status).toBe(200);
    const codes = async (answer: Promise<Answer>): Promise<unknown[]> => {
      const { status, body } = await answer;
      return [status, body?.['code']];
    };
    expect(await codes(ask(app.base, null, id))).toEqual([401, 'credentials-missing']);
    expect(await codes(ask(app.base, token, '01M7WD7W4NMY3T3SB91Z05J4EC'))).toEqual([404, 'not-found']);
    expect(await codes(ask(app.base, token, 'a%20b'))).toEqual([404, 'not-found']);
    expect((await codes(ask(app.base, token, id, '?limit=1')))[0]).toBe(400);
    expect((await call(`${app.base}/v1/alerts/${id}/delivery`, { method: 'POST' })).status).toBe(405);
  });

  test('has exactly its members, for the alert and for each revision, newest first', async () => {
    const viewer = await watch(app.base, '', { token: app.token });
    const { id, offset } = await drill(app.base, app.token);
    await receive(viewer, offset);
    await settled(id, { received: 1 });
    const url = `${app.base}/v1/alerts/${id}/acknowledge`;
    const acknowledged = await call(url, { method: 'POST', headers: { authorization: `Bearer ${app.token}` } });
    const answer = await settled(id, { revisions: [{ sent: 1 }, {}] });
    expect(Object.keys(answer)).toEqual(['alertId', ...COUNTS, 'revisions']);
    const members = ['revision', 'offset', 'type', ...COUNTS];
    expect(answer.revisions.map((each) => Object.keys(each))).toEqual([members, members]);
    expect(Object.keys(answer['sendMs'] as object)).toEqual(PERCENTILES);
    expect(Object.keys(answer['receiveMs'] as object)).toEqual(PERCENTILES);
    const first = { kept: true, connected: 1, sent: 1, resent: 0, received: 1 };
    expect(answer).toMatchObject({ alertId: id, ...first });
    const next = Number(acknowledged.body?.['offset']);
    expect(answer.revisions).toMatchObject([
      { revision: 2, offset: next, type: 'alert-update', at: acknowledged.body?.['updatedAt'], received: 0 },
      { revision: 1, offset, type: 'alert', at: acknowledged.body?.['sentAt'], ...first },
    ]);
    expect(answer.revisions[0]).toMatchObject({ receiveMs: null, firstReceivedAt: null });
    await viewer.close();
  });

  test('counts public viewers too, and leaves out those whose filter does not let the alert through', async () => {
    const answering = await watch(app.base);
    const viewers = [answering, await watch(app.base), await watch(app.base, '?minSeverity=severe')];
    const { id, offset } = await drill(app.base, app.token);
    await receive(answering, offset);
    await settled(id, { connected: 2, sent: 2, received: 1 });
    for (const viewer of viewers) await viewer.close();
  });

  test('counts a connection once, however often and whatever it says', async () => {
    const viewer = await watch(app.base);
    const { id, offset } = await drill(app.base, app.token);
    await receive(viewer, offset);
    for (let n = 0; n < 20; n++) viewer.send({ type: 'received', offset });
    viewer.send({ type: 'received', offset: offset - 1 });
    viewer.send({ type: 'received', offset: offset + 1_000_000 });
    await viewer.until(({ type }) => type === 'error');
    const second = await drill(app.base, app.token);
    await settled(second.id, { sent: 1, received: 0 });
    await settled(id, { connected: 1, sent: 1, received: 1 });
    await viewer.close();
  });

  test('tells what a resumed viewer got apart from what was sent when it came', async () => {
    const before = await watch(app.base);
    const point = before.resumePoint();
    await before.close();
    const { id, offset } = await drill(app.base, app.token);
    const viewer = await watch(app.base, `?epoch=${point.epoch}&offset=${point.offset}`);
    await receive(viewer, offset);
    const answer = await settled(id, { connected: 0, sent: 0, resent: 1, received: 1 });
    expect(answer).toMatchObject({ firstSentAt: null, sendMs: null });
    expect(answer['receiveMs']).not.toBeNull();
    await viewer.close();
  });

  test('measures receipts for operators', async () => {
    const text = await (await fetch(`${app.base}/metrics`)).text();
    expect(text).toMatch(/^tocsin_receipt_seconds_count\{path="\/ws\/alerts"\} [1-9]/m);
  });

  test('is not known any more once the message is gone', async () => {
    const { id, offset } = await drill(app.base, app.token);
    await drill(app.base, app.token);
    expect(await report(app.base, app.token, id)).toMatchObject({ kept: true });
    await db.execute('DELETE FROM channel_messages WHERE "offset" <= $1', [offset]);
    expect(await report(app.base, app.token, id)).toMatchObject({ kept: false, revisions: [{ kept: false }] });
  });
});

describeWith(['redis'], 'the delivery of an alert in a cluster', () => {
  let redis: RedisServer;
  let cluster: TestCluster;
  beforeAll(async () => {
    redis = await startRedis();
    cluster = await startTestCluster({ gateways: 2, workers: 1, redis, environment: { WS_PUBLIC_ALERTS: 'true' } });
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
  });

  test('is the sum over all gateways, whichever is asked, and outlives those that end', async () => {
    const { token, add } = cluster;
    const [first = '', second = ''] = cluster.gateways.map(({ address }) => address);
    const leaving = await add('gateway');
    const staying = await Promise.all([first, first, second].map((base) => watch(base)));
    const moving = await watch(leaving.address);
    const { id, offset } = await drill(second, token);
    await Promise.all([...staying, moving].map((viewer) => receive(viewer, offset)));
    for (const base of [first, second]) {
      await expect
        .poll(() => report(base, token, id), { timeout: 10_000 })
        .toMatchObject({ connected: 4, sent: 4, received: 4 });
    }
    const last = await drill(first, token);
    await moving.until((message) => message.offset === last.offset && message.data !== undefined);
    // Ended within the second: what it counted since its last writing is written at the end.
    await leaving.stop();
    await expect
      .poll(() => report(first, token, last.id), { timeout: 10_000 })
      .toMatchObject({ connected: 4, sent: 4 });
    for (const viewer of staying) await viewer.close();
  });
});

describeWith(['redis', 'postgres15-postgis'], 'the delivery of an alert when processes die', () => {
  let cluster: ProcessCluster;
  beforeAll(async () => {
    const environment = { WS_PUBLIC_ALERTS: 'true' };
    cluster = await startProcessCluster({ gateways: 2, workers: 0, redis: 'single', environment });
  });
  afterAll(() => cluster?.stop());

  test('keeps what a killed process had written, and counts the resumed connection apart', async () => {
    const { token } = cluster;
    const [first, second] = cluster.gateways();
    if (first === undefined || second === undefined) throw new Error('too few gateways');
    const [lost, ...others] = [await watch(first.base), await watch(first.base), await watch(second.base)];
    const { id, offset } = await drill(second.base, token);
    await Promise.all([lost, ...others].map((viewer) => receive(viewer, offset)));
    const written = { connected: 3, sent: 3, received: 3 };
    await expect.poll(() => report(second.base, token, id), { timeout: 10_000 }).toMatchObject(written);
    const { epoch } = lost.resumePoint();
    await first.kill();
    const back = await watch(second.base, `?epoch=${epoch}&offset=${offset - 1}`);
    await receive(back, offset);
    await expect
      .poll(() => report(second.base, token, id), { timeout: 10_000 })
      .toMatchObject({ connected: 3, sent: 3, resent: 1, received: 4 });
    await back.close();
    for (const viewer of others) viewer.cut();
  });

  test('is counted while the store is away, and written when it is back', async () => {
    const { token } = cluster;
    const [, second] = cluster.gateways();
    if (second === undefined) throw new Error('too few gateways');
    const viewer = await watch(second.base);
    const { id, offset } = await drill(second.base, token);
    await viewer.until((message) => message.offset === offset && message.data !== undefined);
    second.links.postgres.cut();
    viewer.send({ type: 'received', offset });
    // Two failed writings or more.
    await expect
      .poll(() => second.process().output(), { timeout: 15_000 })
      .toContain('counts of deliveries will be written later');
    second.links.postgres.heal();
    await expect
      .poll(async () => (await ask(second.base, token, id)).body, { timeout: 15_000 })
      .toMatchObject({ connected: 1, sent: 1, received: 1 });
    await viewer.close();
  });
});
