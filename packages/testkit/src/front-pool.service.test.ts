import { openDatabase } from '@tocsin/server/store/pool';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, post } from './device.ts';
import { registerFleet } from './fleet.ts';
import { startTestApp, type TestApp } from './test-app.ts';
import { connectViewer } from './viewer.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ SWARM_SENSORS: '5', RATE_LIMIT_BURST: '1000' });
});
afterAll(() => app?.stop());

test('an alarm goes its way while people’s questions wait for the store', async () => {
  const [fleet = []] = await registerFleet(app.base, app.token, { name: 'front', zones: 1, perZone: 5 });
  const viewer = await connectViewer(`${app.base.replace('http', 'ws')}/ws/alerts`, { token: app.token });
  const admin = openDatabase(app.databaseUrl, { maxConnections: 1 });
  const headers = { authorization: `Bearer ${app.token}` };
  // Whoever reads signs of people waits behind this lock; the way of an alarm never reads that table.
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const locked = new Promise<void>((resolve, reject) => {
    admin
      .transaction(async (sql) => {
        await sql.execute('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
        resolve();
        await held;
      })
      .catch(reject);
  });
  await locked;
  const waiting = Array.from({ length: 60 }, () =>
    call(`${app.base}/v1/users`, { headers }).then(
      (answer) => answer.status,
      () => 0,
    ),
  );
  const at = Date.now();
  const answers = await Promise.all(
    fleet.map((device) => post(app.base, app.apiKey, device.seal('e', { readings: [{ at, value: 1 }] }))),
  );
  expect(answers.map((answer) => answer.status)).toEqual([202, 202, 202, 202, 202]);
  await viewer.until((message) => message.type === 'alert');
  release();
  await Promise.all(waiting);
  await viewer.close();
  await admin.close();
});
