import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AlertDraft, REVISIONS_KEPT } from '../ports/alerts.ts';
import type { DeliveryRow, DeliveryStore } from '../ports/deliveries.ts';
import { createAlertStore } from './alerts.ts';
import { createDeliveryStore } from './deliveries.ts';

const ID = '01M7WD7W4NMY3T3SB91Z05J4EC';

describe.each(engines)('counts of deliveries on %s', (engine) => {
  let database: TestDatabase;
  let deliveries: DeliveryStore;

  beforeAll(async () => {
    database = await openTestDatabase({ engine });
    deliveries = createDeliveryStore(database.db);
  });
  afterAll(async () => {
    await database.close();
  });
  beforeEach(async () => {
    await database.db.execute('TRUNCATE alert_deliveries, channel_messages, alerts');
  });

  const row = (offset: number, more: Partial<DeliveryRow> = {}): DeliveryRow => ({
    offset,
    connected: 4,
    sent: 3,
    resent: 2,
    received: 1,
    firstSentAt: 1_795_176_001_685,
    lastSentAt: 1_795_176_001_690,
    firstReceivedAt: null,
    lastReceivedAt: null,
    send: { bins: [0, 20_001], counts: [1, 2] },
    receive: { bins: [], counts: [] },
    ...more,
  });

  const messages = async (from: number, to: number): Promise<void> => {
    await database.db.execute(
      `INSERT INTO channel_messages (channel, "offset", type, severity, created_at, body)
       SELECT 'alerts', n, 'alert', 0, 0, '{}' FROM generate_series($1::integer, $2::integer) n`,
      [from, to],
    );
  };

  test('come back as they were written, those of every instance', async () => {
    await deliveries.save('alerts', 'i1', [row(1), row(2)]);
    await deliveries.save('alerts', 'i2', [row(2, { connected: 9 })]);
    await deliveries.save('other', 'i1', [row(1)]);
    await deliveries.save('alerts', 'i1', []);
    expect(await deliveries.read('alerts', [1])).toEqual([row(1)]);
    const both = await deliveries.read('alerts', [2, 3]);
    expect(both.sort((a, b) => a.connected - b.connected)).toEqual([row(2), row(2, { connected: 9 })]);
  });

  test('take the place of what the same instance wrote before, so that writing again changes nothing', async () => {
    await deliveries.save('alerts', 'i1', [row(1)]);
    const later = row(1, { received: 3, firstReceivedAt: 1, lastReceivedAt: 2, receive: { bins: [5], counts: [3] } });
    for (let n = 0; n < 2; n++) await deliveries.save('alerts', 'i1', [later]);
    expect(await deliveries.read('alerts', [1])).toEqual([later]);
  });

  test('go with their messages, and only then', async () => {
    await deliveries.save(
      'alerts',
      'i1',
      [1, 2, 3].map((offset) => row(offset)),
    );
    expect(await deliveries.trim('alerts')).toBe(0);
    await messages(3, 4);
    expect(await deliveries.trim('alerts')).toBe(2);
    expect(await deliveries.trim('alerts')).toBe(0);
    expect(await deliveries.read('alerts', [1, 2, 3])).toEqual([row(3)]);
  });

  test('are found by the revisions of an alert: the first, and the newest', async () => {
    const alerts = createAlertStore(database.db);
    const draft: AlertDraft = {
      id: ID,
      kind: 'host.cpu',
      severity: 'severe',
      status: 'actual',
      state: 'open',
      revision: 1,
      headline: 'h',
      description: '',
      zoneId: null,
      deviceId: null,
      latitude: null,
      longitude: null,
      onset: 1,
      sentAt: 1001,
      updatedAt: 1001,
      fingerprint: 'f',
      evidence: {},
    };
    const revise = async (revision: number, offset: number): Promise<void> => {
      const alert = { ...draft, revision, offset, updatedAt: 1000 + revision, signature: '' };
      const message = { channel: 'alerts', offset, type: 'alert', zoneId: null, severity: 3, createdAt: 1, body: '{}' };
      await database.db.transaction((tx) => alerts.enter(tx, [{ alert, message }]));
    };
    await database.db.transaction((tx) => alerts.insertNew(tx, [draft]));
    await revise(1, 10);
    const first = { revision: 1, offset: 10, at: 1001 };
    expect(await deliveries.places('alerts', ID, 2)).toEqual({ first, newest: [first], oldestKept: 10 });
    for (let revision = 2; revision <= REVISIONS_KEPT + 5; revision++) await revise(revision, revision * 10);
    const last = REVISIONS_KEPT + 5;
    expect(await deliveries.places('alerts', ID, 2)).toEqual({
      first,
      newest: [last, last - 1].map((revision) => ({ revision, offset: revision * 10, at: 1000 + revision })),
      oldestKept: 10,
    });
    expect((await deliveries.places('alerts', ID, 1000))?.newest).toHaveLength(REVISIONS_KEPT);
    expect(await deliveries.places('alerts', 'nobody', 2)).toBeNull();
  });

  test('of an alert from before they were counted begin with its next revision', async () => {
    await database.db.execute(
      `INSERT INTO alerts (id, kind, severity, status, state, revision, "offset", headline, description, onset, sent_at,
         updated_at, revised_at, fingerprint, evidence, signature)
       VALUES ($1, 'host.cpu', 'severe', 'actual', 'open', 2, 4, '', '', 1, 1001, 1002, '{1001,1002}', 'f', '{}', '')`,
      [ID],
    );
    expect(await deliveries.places('alerts', ID, 20)).toEqual({ first: null, newest: [], oldestKept: null });
    await database.db.execute(
      `UPDATE alerts SET revision = 3, revised_at = '{1001,1002,1003}', revised_offsets = '{9}'`,
    );
    expect(await deliveries.places('alerts', ID, 20)).toEqual({
      first: null,
      newest: [{ revision: 3, offset: 9, at: 1003 }],
      oldestKept: null,
    });
  });
});
