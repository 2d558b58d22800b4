import { expect, test } from 'vitest';
import type { RealtimeReport } from './realtime-matrix.ts';
import { readRealtimeReports, realtimeTable } from './realtime-table.ts';

const REPORT: RealtimeReport = {
  realtime: 'an instance, killed',
  round: 0,
  viewers: 500,
  lastedMs: 7012,
  alerts: 100,
  seen: 50_000,
  expected: 50_000,
  behind: 0,
  faults: [],
  lost: 0,
  different: 0,
  cuts: 900,
  connects: 980,
  closed: { 1006: 600 },
  refused: { 503: 4 },
  unprotectedMs: 4100,
  latestMs: 930,
  late: 50,
  notMade: {},
};

test('reports of one fault make one row: counts are sums, times median and worst, lateness a share', () => {
  const short = { ...REPORT, round: 1, seen: 49_999, unprotectedMs: 2000 };
  const text = ['a line', JSON.stringify(REPORT), JSON.stringify(short), '{"level":30}'].join('\n');
  expect(realtimeTable(readRealtimeReports(text)).split('\n').slice(2)).toEqual([
    '| an instance, killed | 2 | 7.0 / 7.0 | 200 | 99,999 | 1 | 0 | 0 | 0 | 1,800 | 1,960 | 8 | 4.1 / 4.1 | 0.9 / 0.9 | 0.1 % |',
  ]);
});
