import { describe, expect, test } from 'vitest';
import type { LogRecord } from '../store/ports/log.ts';
import { atOnePace as paced, type Pace } from './pace.ts';

/** Long after all of them had arrived. */
const LATER = 60_000;

function atOnePace(
  read: readonly LogRecord[],
  limit: number,
  maxBytes: number,
  change: Partial<Pace> = {},
): readonly LogRecord[] {
  return paced(read, { limit, maxBytes, now: LATER, heldSince: new Map(), ...change }).records;
}

function records(partition: number, ...arrivals: number[]): LogRecord[] {
  return arrivals.map((receivedAt, i) => ({
    ...{
      partition,
      offset: i + 1,
      kind: 'envelope',
      receivedAt,
      key: `d${partition}`,
      traceparent: null,
      context: null,
    },
    body: 'x'.repeat(10),
  }));
}

const arrivals = (kept: readonly LogRecord[]): [number, number][] =>
  kept.map(({ partition, receivedAt }) => [partition, receivedAt]);

describe('the pace of partitions that share a cycle', () => {
  test('whoever has read everything keeps everything', () => {
    const all = [...records(0, 1, 2), ...records(1, 50)];
    expect(atOnePace(all, 3, 1000)).toEqual(all);
  });

  test('nobody goes beyond the arrival that the slowest got to, whether its read ended by count or by bytes', () => {
    const all = [...records(0, 1, 2, 3), ...records(1, 2, 3, 4), ...records(2, 9)];
    const wanted = [...[1, 2, 3].map((at) => [0, at]), [1, 2], [1, 3]];
    expect(arrivals(atOnePace(all, 3, 1000))).toEqual(wanted);
    expect(arrivals(atOnePace(all, 99, 30))).toEqual(wanted);
  });

  test('the slowest keeps all of its records even when they did not arrive in order, and no record is passed over', () => {
    const all = [...records(0, 7, 6, 4, 3), ...records(1, 2, 9, 1)];
    expect(arrivals(atOnePace(all, 4, 1000))).toEqual([
      [0, 7],
      [0, 6],
      [0, 4],
      [0, 3],
      [1, 2],
    ]);
  });

  test('a partition alone is not held back', () => {
    const all = records(0, 7, 3);
    expect(atOnePace(all, 1, 1)).toEqual(all);
  });

  test('what has only just arrived waits for no partition that is behind: an alarm is not late for a flood elsewhere', () => {
    const all = [...records(0, 1, 2, 3), ...records(1, LATER - 100, LATER)];
    expect(atOnePace(all, 3, 1000)).toEqual(all);
  });

  test('a partition is held for seconds, not for as long as another stays behind; then it catches up alone', () => {
    const all = [...records(0, 1, 2, 3), ...records(1, 2, 9, 10)];
    const read = { limit: 3, maxBytes: 1000 };
    const first = paced(all, { ...read, now: LATER, heldSince: new Map() });
    expect(first.heldSince).toEqual(new Map([[1, LATER]]));
    const soon = paced(all, { ...read, now: LATER + 9000, heldSince: first.heldSince });
    expect(soon).toEqual(first);
    const late = paced(all, { ...read, now: LATER + 11_000, heldSince: soon.heldSince });
    expect(late.records).toEqual(all);
    const alone = paced(all, { ...read, now: LATER + 20_000, heldSince: late.heldSince });
    expect(alone.records).toEqual(all);
    const caughtUp = paced(all.slice(0, -1), { ...read, now: LATER + 20_100, heldSince: alone.heldSince });
    expect(caughtUp.heldSince).toEqual(new Map());
  });

  test('a clock that is set back holds nobody for longer', () => {
    const all = [...records(0, 1, 2, 3), ...records(1, 9)];
    expect(atOnePace(all, 3, 1000, { heldSince: new Map([[1, LATER + 3_600_000]]) })).toEqual(all);
  });
});
