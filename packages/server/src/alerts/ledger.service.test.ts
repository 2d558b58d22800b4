import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import type { Alert } from '@tocsin/protocol/alert';
import { AlertSchema } from '@tocsin/protocol/alert';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { Compile } from 'typebox/compile';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ChannelMessage } from '../store/ports/channels.ts';
import { createAlertStore } from '../store/postgres/alerts.ts';
import { createChannelStore } from '../store/postgres/channels.ts';
import { fingerprint } from './fingerprint.ts';
import { createLedger, type Ledger, type RaisedMessage } from './ledger.ts';
import { type PublicJwk, verifyAlert } from './sign.ts';
import { createIdFactory } from '../lib/ulid.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'k1' } as PublicJwk;
const validAlert = Compile(AlertSchema);

function finding(onset: number, change: Partial<AlertFinding> = {}): AlertFinding {
  return {
    kind: 'seismic.swarm',
    severity: 'severe',
    status: 'actual',
    headline: 'Seismic alarm',
    description: 'Many sensors at once.',
    zoneId: 'z1',
    deviceId: null,
    latitude: 37.5,
    longitude: 15.087,
    onset,
    fingerprint: fingerprint('seismic.swarm', 'zone:z1', onset),
    evidence: { amplitude: 0.30000000000000004, sensors: 50, envelopes: [{ deviceId: 'd1', envelopeId: 'e1' }] },
    ...change,
  };
}

describe.each(engines)('the ledger on %s', (engine) => {
  let database: TestDatabase;
  let alerts: ReturnType<typeof createAlertStore>;
  let channels: ReturnType<typeof createChannelStore>;
  let published: RaisedMessage[] = [];
  let failures: unknown[] = [];
  let acts: string[] = [];
  let publishFails = false;

  // Each call is another process: a factory of ids of its own.
  const open = (): Ledger =>
    createLedger({
      db: database.db,
      alerts,
      channels,
      signer: () => ({ kid: 'k1', privateKey: pair.privateKey }),
      ids: createIdFactory(),
      publish: (messages) => {
        if (publishFails) throw new Error('the bus is away');
        published.push(...messages);
      },
      events: {
        acted: (id, action, actor) => acts.push(`${actor} ${action} ${id}`),
        publishFailed: (error) => failures.push(error),
      },
    });

  const raise = (ledger: Ledger, findings: readonly AlertFinding[], now: number): Promise<RaisedMessage[]> =>
    database.db.transaction((tx) => ledger.raise(tx, findings, now));

  const history = (): Promise<ChannelMessage[]> => channels.read('alerts', 0, 100_000);

  beforeAll(async () => {
    database = await openTestDatabase({ engine });
    alerts = createAlertStore(database.db);
    channels = createChannelStore(database.db);
  });

  afterAll(async () => {
    await database.close();
  });

  beforeEach(async () => {
    await database.db.execute('TRUNCATE alerts, channel_messages');
    await database.db.execute('UPDATE channels SET head = 0');
    published = [];
    failures = [];
    acts = [];
    publishFails = false;
  });

  test('a finding becomes one alert, one message whose body is the alert as lists show it, and a signature that checks', async () => {
    const [message] = await raise(open(), [finding(1000)], 2000);
    const stored = await alerts.get(message?.alert.id ?? '');
    const body: unknown = JSON.parse(message?.body ?? '');
    expect(body).toEqual(stored?.alert);
    expect(validAlert.Check(body)).toBe(true);
    expect(verifyAlert(body as Alert, jwk)).toBe(true);
    expect(body).toMatchObject({ state: 'open', revision: 1, offset: 1, onset: 1000, sentAt: 2000, updatedAt: 2000 });
    const [read] = await history();
    expect(read).toEqual({
      channel: 'alerts',
      offset: 1,
      type: 'alert',
      zoneId: 'z1',
      severity: 3,
      createdAt: 2000,
      body: message?.body,
    });
    expect(Object.keys(body as object)).toEqual(
      'id kind severity status state revision offset headline description zoneId deviceId latitude longitude onset sentAt updatedAt fingerprint evidence signature'.split(
        ' ',
      ),
    );
  });

  test('an alert read from the list checks with node:crypto alone', async () => {
    await raise(open(), [finding(1000)], 2000);
    const [alert] = await alerts.list(
      { zoneId: null, deviceId: null, kind: null, severity: null, state: null, since: null, until: null },
      null,
      1,
    );
    if (alert === undefined) throw new Error('no alert');
    const { signature, ...rest } = alert;
    const sorted = (value: unknown): unknown =>
      value !== null && typeof value === 'object' && !Array.isArray(value)
        ? Object.fromEntries(
            Object.keys(value)
              .sort()
              .map((key) => [key, sorted((value as Record<string, unknown>)[key])]),
          )
        : Array.isArray(value)
          ? value.map(sorted)
          : value;
    const [header = '', bytes = ''] = signature.split('..');
    const input = `${header}.${Buffer.from(JSON.stringify(sorted(rest))).toString('base64url')}`;
    const key = createPublicKey({ key: jwk as never, format: 'jwk' });
    expect(
      verify('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(bytes, 'base64url')),
    ).toBe(true);
  });

  test('the same finding again, in any batch, is nothing new', async () => {
    const ledger = open();
    await raise(ledger, [finding(1000), finding(1000)], 2000);
    expect(await raise(ledger, [finding(1000)], 3000)).toEqual([]);
    expect(await raise(open(), [finding(1000, { severity: 'minor' })], 3000)).toEqual([]);
    expect(await history()).toHaveLength(1);
    expect((await channels.head('alerts')).head).toBe(1);
  });

  test('more evidence or a worse severity is a new revision with a signature of its own', async () => {
    const ledger = open();
    const [first] = await raise(ledger, [finding(1000)], 2000);
    const more = {
      sensors: 75,
      envelopes: [
        { deviceId: 'd1', envelopeId: 'e1' },
        { deviceId: 'd2', envelopeId: 'e1' },
      ],
    };
    const [second] = await raise(ledger, [finding(1000, { severity: 'minor', evidence: more })], 3000);
    const [third] = await raise(ledger, [finding(1000, { severity: 'extreme', evidence: more })], 4000);
    expect([second?.type, third?.type]).toEqual(['alert-update', 'alert-update']);
    expect([second?.alert.severity, third?.alert.severity]).toEqual(['severe', 'extreme']);
    expect(second?.alert).toMatchObject({
      id: first?.alert.id,
      revision: 2,
      offset: 2,
      sentAt: 2000,
      updatedAt: 3000,
      evidence: more,
    });
    expect(new Set([first, second, third].map((message) => message?.alert.signature)).size).toBe(3);
    expect((await history()).every((message) => verifyAlert(JSON.parse(message.body) as Alert, jwk))).toBe(true);
    expect((await alerts.get(first?.alert.id ?? ''))?.revisedAt).toEqual([2000, 3000, 4000]);
  });

  test('an acknowledged alert grows and stays acknowledged, a resolved one stays as it is', async () => {
    const ledger = open();
    const [first] = await raise(ledger, [finding(1000)], 2000);
    const id = first?.alert.id ?? '';
    await ledger.act(id, 'acknowledge', 'u1', 3000);
    const [grown] = await raise(ledger, [finding(1000, { evidence: { sensors: 60 }, severity: 'extreme' })], 4000);
    expect(grown?.alert).toMatchObject({ state: 'acknowledged', severity: 'extreme', revision: 3 });
    await ledger.act(id, 'resolve', 'u1', 5000);
    expect(await raise(ledger, [finding(1000, { evidence: { sensors: 90 } })], 6000)).toEqual([]);
    expect((await alerts.get(id))?.alert).toMatchObject({
      state: 'resolved',
      revision: 4,
      offset: 4,
      evidence: { sensors: 60 },
    });
  });

  test('an end resolves the open alert and the acknowledged one, once; a resolved or unknown one it leaves alone', async () => {
    const ledger = open();
    const end = (onset: number): AlertFinding =>
      finding(onset, { ends: true, headline: '', description: 'Over.', evidence: { ended: { at: 9 } } });
    const [a, b, c] = await raise(ledger, [finding(1), finding(2), finding(3)], 2000);
    await ledger.act(b?.alert.id ?? '', 'acknowledge', 'u1', 2500);
    await ledger.act(c?.alert.id ?? '', 'resolve', 'u1', 2600);
    const ended = await raise(ledger, [end(1), end(2), end(3), end(4), end(1)], 3000);
    expect(ended.map(({ type, alert }) => [type, alert.id, alert.state, alert.revision])).toEqual([
      ['alert-update', a?.alert.id, 'resolved', 2],
      ['alert-update', b?.alert.id, 'resolved', 3],
    ]);
    expect(ended[0]?.alert).toMatchObject({
      ...{ headline: 'Seismic alarm', description: 'Many sensors at once. Over.', severity: 'severe', updatedAt: 3000 },
      evidence: { sensors: 50, ended: { at: 9 } },
    });
    expect(ended[0] !== undefined && verifyAlert(ended[0].alert, jwk)).toBe(true);
    expect(await raise(ledger, [end(1), finding(1, { evidence: { sensors: 90 } })], 4000)).toEqual([]);
    expect(await database.db.query('SELECT id FROM alerts')).toHaveLength(3);
    expect(acts).toHaveLength(2);
  });

  test('what begins, grows and ends in one batch is told in that order, each with an offset', async () => {
    const end = finding(1000, { ends: true, description: 'Over.' });
    const batch = [finding(1000), finding(500), end, finding(2000), finding(1000, { severity: 'extreme' })];
    const raised = await raise(open(), batch, 2000);
    expect(raised.map(({ offset, alert }) => [offset, alert.onset, alert.revision, alert.state])).toEqual([
      [1, 1000, 1, 'open'],
      [2, 500, 1, 'open'],
      [3, 1000, 2, 'resolved'],
      [4, 2000, 1, 'open'],
    ]);
    expect((await history()).map(({ type }) => type)).toEqual(['alert', 'alert', 'alert-update', 'alert']);
    const record = await alerts.get(raised[0]?.alert.id ?? '');
    expect(record?.alert).toEqual(raised[2]?.alert);
    expect(record?.revisedAt).toEqual([2000, 2000]);
  });

  test('eight workers at once with one fingerprint make one alert and one message', async () => {
    const workers = Array.from({ length: 8 }, open);
    const answers = await Promise.all(workers.map((ledger, index) => raise(ledger, [finding(1000)], 2000 + index)));
    expect(answers.flat()).toHaveLength(1);
    const messages = await history();
    expect(messages.map((message) => message.type)).toEqual(['alert']);
    expect(await database.db.query('SELECT id FROM alerts')).toHaveLength(1);
  });

  test('workers that abort in between leave no alert, no message and no gap', async () => {
    const abort = new Error('the fence was raised');
    const rounds = 12;
    for (let round = 0; round < rounds; round += 1) {
      const workers = Array.from({ length: 8 }, (_, index) => {
        // The first to come may be one that aborts: another one must then make the alert.
        const aborts = index % 2 === round % 2;
        return database.db
          .transaction(async (tx) => {
            const messages = await open().raise(tx, [finding(round), finding(round + 100_000)], 2000);
            if (aborts) throw abort;
            return messages;
          })
          .catch((error: unknown) => {
            if (error !== abort) throw error;
            return [];
          });
      });
      expect((await Promise.all(workers)).flat()).toHaveLength(2);
    }
    const messages = await history();
    expect(messages.map((message) => message.offset)).toEqual(
      Array.from({ length: 2 * rounds }, (_, index) => index + 1),
    );
    expect(messages.every((message) => message.type === 'alert')).toBe(true);
    expect((await channels.head('alerts')).head).toBe(2 * rounds);
    expect(await database.db.query(`SELECT id FROM alerts WHERE signature = ''`)).toEqual([]);
  });

  test('workers with several findings in opposite orders do not deadlock', async () => {
    const onsets = Array.from({ length: 20 }, (_, index) => index);
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        raise(
          open(),
          (index % 2 === 0 ? onsets : [...onsets].reverse()).map((onset) =>
            finding(onset, { evidence: { from: index } }),
          ),
          2000,
        ),
      ),
    );
    const messages = await history();
    expect(messages.filter((message) => message.type === 'alert')).toHaveLength(20);
    expect(messages.map((message) => message.offset)).toEqual(messages.map((_, index) => index + 1));
    expect(answers.flat()).toHaveLength(messages.length);
  });

  test('messages of a batch come in the order of its findings', async () => {
    const raised = await raise(open(), [finding(3), finding(1), finding(2)], 2000);
    expect(raised.map((message) => [message.offset, message.alert.onset])).toEqual([
      [1, 3],
      [2, 1],
      [3, 2],
    ]);
    expect((await history()).map((message) => (JSON.parse(message.body) as Alert).onset)).toEqual([3, 1, 2]);
  });

  test('whatever is in texts and evidence, the signature checks after the trip through the store', async () => {
    const evidence = {
      'a\u0000': 'x\u0000\ud800',
      tiny: 5e-324,
      large: 1.7976931348623157e308,
      zero: -0,
      nan: Number.NaN,
      text: '€\u202e😀"\\',
      nested: { z: [1, { y: null }] },
    };
    await raise(
      open(),
      [
        finding(1000, {
          headline: '\u001b[31mred\u0000',
          description: 'a\nb',
          evidence,
          latitude: -0,
          longitude: 0.1 + 0.2,
        }),
      ],
      2000,
    );
    const [row] = await alerts.list(
      { zoneId: 'z1', deviceId: null, kind: null, severity: null, state: null, since: null, until: null },
      null,
      10,
    );
    expect(row?.headline).toBe('[31mred');
    expect(row !== undefined && verifyAlert(row, jwk)).toBe(true);
  });

  test('an action is one revision and one message, told after the commit; again, it is nothing', async () => {
    const ledger = open();
    const [first] = await raise(ledger, [finding(1000)], 2000);
    const id = first?.alert.id ?? '';
    const done = await ledger.act(id, 'acknowledge', 'u1', 3000);
    const again = await ledger.act(id, 'acknowledge', 'u2', 4000);
    expect([done.outcome, again.outcome]).toEqual(['changed', 'unchanged']);
    expect(published.map((message) => [message.type, message.alert.state, message.offset])).toEqual([
      ['alert-update', 'acknowledged', 2],
    ]);
    expect(again).toMatchObject({ alert: { revision: 2, updatedAt: 3000 } });
    expect(acts).toEqual([`u1 acknowledge ${id}`]);
    expect(published[0] !== undefined && verifyAlert(published[0].alert, jwk)).toBe(true);
  });

  test('a resolved alert cannot be acknowledged, and one that is not there cannot be anything', async () => {
    const ledger = open();
    const [first] = await raise(ledger, [finding(1000)], 2000);
    const id = first?.alert.id ?? '';
    await ledger.act(id, 'resolve', 'u1', 3000);
    expect(await ledger.act(id, 'acknowledge', 'u1', 4000)).toMatchObject({
      outcome: 'transition-forbidden',
      alert: { state: 'resolved' },
    });
    expect(await ledger.act('01ARYZ6S41TSV4RRFFQ69G5FAV', 'resolve', 'u1', 4000)).toEqual({ outcome: 'not-found' });
    expect(await history()).toHaveLength(2);
  });

  test('of many operators who do the same at once, one changes the alert', async () => {
    const [first] = await raise(open(), [finding(1000)], 2000);
    const id = first?.alert.id ?? '';
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) => open().act(id, 'resolve', `u${index}`, 3000)),
    );
    expect(results.filter((result) => result.outcome === 'changed')).toHaveLength(1);
    expect(results.filter((result) => result.outcome === 'unchanged')).toHaveLength(7);
    expect((await history()).map((message) => message.offset)).toEqual([1, 2]);
  });

  test('a drill is an exercise of its own kind, and two at once are two', async () => {
    const ledger = open();
    const drill = { severity: 'extreme', headline: 'This is a drill', description: '', zoneId: 'z1' } as const;
    const [a, b] = await Promise.all([ledger.drill(drill, 'u1', 2000), ledger.drill(drill, 'u1', 2000)]);
    expect(a).toMatchObject({
      kind: 'operator.drill',
      status: 'exercise',
      state: 'open',
      revision: 1,
      onset: 2000,
      headline: 'This is a drill',
    });
    expect(new Set([a.id, b.id]).size).toBe(2);
    expect(new Set([a.offset, b.offset])).toEqual(new Set([1, 2]));
    expect(validAlert.Check(a) && verifyAlert(a, jwk)).toBe(true);
    expect(published.map((message) => message.type)).toEqual(['alert', 'alert']);
  });

  test('a bus that fails loses no action: it is in the store, and reported', async () => {
    publishFails = true;
    const ledger = open();
    const alert = await ledger.drill({ severity: 'minor', headline: 'x', description: '', zoneId: null }, 'u1', 2000);
    expect(failures).toHaveLength(1);
    expect((await history()).map((message) => message.offset)).toEqual([alert.offset]);
  });

  test('a long life keeps a bounded number of revision times', async () => {
    const ledger = open();
    for (let count = 1; count <= 105; count += 1)
      await raise(ledger, [finding(1000, { evidence: { count } })], 2000 + count);
    const [row] = await alerts.list(
      { zoneId: null, deviceId: null, kind: null, severity: null, state: null, since: null, until: null },
      null,
      1,
    );
    const record = await alerts.get(row?.id ?? '');
    expect(record?.alert.revision).toBe(105);
    expect(record?.revisedAt).toEqual(Array.from({ length: 100 }, (_, index) => 2006 + index));
  });
});
