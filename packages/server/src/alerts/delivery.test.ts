import { describe, expect, test } from 'vitest';
import { binOf } from '../lib/sketch.ts';
import type { AlertPlaces, DeliveryRow, RevisionPlace } from '../store/ports/deliveries.ts';
import { makeReport } from './delivery.ts';

const AT = 1_795_176_001_685;
const NOTHING = { bins: [], counts: [] };
const EMPTY = {
  connected: 0,
  sent: 0,
  resent: 0,
  received: 0,
  firstSentAt: null,
  lastSentAt: null,
  firstReceivedAt: null,
  lastReceivedAt: null,
  sendMs: null,
  receiveMs: null,
};

const row = (offset: number, more: Partial<DeliveryRow> = {}): DeliveryRow => ({
  offset,
  connected: 0,
  sent: 0,
  resent: 0,
  received: 0,
  firstSentAt: null,
  lastSentAt: null,
  firstReceivedAt: null,
  lastReceivedAt: null,
  send: NOTHING,
  receive: NOTHING,
  ...more,
});
const place = (revision: number, offset: number): RevisionPlace => ({ revision, offset, at: AT + revision });
const places = (more: Partial<AlertPlaces> = {}): AlertPlaces => ({
  first: place(1, 7),
  newest: [place(2, 9), place(1, 7)],
  oldestKept: 1,
  ...more,
});

describe('the report of an alert', () => {
  test('adds up what all processes counted, and takes percentiles over all of them', () => {
    const start = AT + 1;
    const report = makeReport('a', places(), [
      row(7, {
        connected: 10,
        sent: 9,
        received: 2,
        firstSentAt: start + 4,
        lastSentAt: start + 4,
        firstReceivedAt: start + 20,
        lastReceivedAt: start + 30,
        send: { bins: [binOf(4)], counts: [9] },
        receive: { bins: [binOf(20), binOf(30)], counts: [1, 1] },
      }),
      row(7, {
        connected: 1,
        sent: 1,
        resent: 3,
        firstSentAt: start + 200,
        lastSentAt: start + 200,
        send: { bins: [binOf(200)], counts: [1] },
      }),
      row(9, { connected: 5 }),
    ]);
    const first = {
      kept: true,
      at: start,
      connected: 11,
      sent: 10,
      resent: 3,
      received: 2,
      firstSentAt: start + 4,
      lastSentAt: start + 200,
      firstReceivedAt: start + 20,
      lastReceivedAt: start + 30,
      sendMs: { p50: 4, p95: 111, p99: 181, max: 200 },
      receiveMs: { p50: 25, p95: 30, p99: 30, max: 30 },
    };
    expect(report).toEqual({
      alertId: 'a',
      ...first,
      revisions: [
        { revision: 2, offset: 9, type: 'alert-update', kept: true, at: AT + 2, ...EMPTY, connected: 5 },
        { revision: 1, offset: 7, type: 'alert', ...first },
      ],
    });
  });

  test('has nothing to tell of a message that nobody was there for', () => {
    expect(makeReport('a', places(), [])).toMatchObject({ kept: true, at: AT + 1, ...EMPTY });
  });

  test('says so when the message, or its place, is not kept any more', () => {
    const stale = row(7, { connected: 3 });
    expect(makeReport('a', places({ oldestKept: 8 }), [stale])).toMatchObject({
      kept: false,
      at: AT + 1,
      ...EMPTY,
      revisions: [{ kept: true }, { kept: false, ...EMPTY }],
    });
    expect(makeReport('a', places({ oldestKept: null }), [stale])).toMatchObject({ kept: false });
    expect(makeReport('a', places({ first: null, newest: [] }), [])).toEqual({
      alertId: 'a',
      kept: false,
      at: null,
      ...EMPTY,
      revisions: [],
    });
  });

  test('takes what seems to come before the message, by another clock, as coming with it', () => {
    const early = {
      sent: 1,
      firstSentAt: AT - 5,
      lastSentAt: AT - 5,
      send: { bins: [0], counts: [1] },
    };
    expect(makeReport('a', places(), [row(7, early)])).toMatchObject({ sendMs: { p50: 0, p95: 0, p99: 0, max: 0 } });
  });
});
