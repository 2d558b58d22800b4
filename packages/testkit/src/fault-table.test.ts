import { expect, test } from 'vitest';
import type { FaultReport } from './fault-matrix.ts';
import { faultTable, readReports } from './fault-table.ts';

const REPORT: FaultReport = {
  fault: 'gateway, frozen',
  round: 0,
  begunAfterMs: 100,
  lastedMs: 7012,
  gapMs: 240,
  accepted: 1200,
  stored: 1200,
  rows: 1200,
  envelopes: 1200,
  retries: 10,
  strange: {},
  alerts: 2,
  seen: [2, 2],
  alertMs: 3400,
  laterAlertMs: 80,
  ready: { a: 'ok', b: 'silent' },
  okAfterMs: 400,
  viewerFaults: [],
  viewerConnections: 3,
};

test('reports of one fault make one row: counts are sums, times median and worst; other lines do not count', () => {
  const reports = [REPORT, { ...REPORT, round: 1, gapMs: 900, alertMs: null }, { ...REPORT, fault: 'worker, killed' }];
  const text = ['a line', ...reports.map((report) => JSON.stringify(report)), '{"level":30}'].join('\n');
  const lines = faultTable(readReports(text)).split('\n');
  expect(lines).toHaveLength(4);
  expect(lines[2]).toBe(
    '| gateway, frozen | 2 | 7.0 / 7.0 | 2,400 | 2,400 | 20 | 4 | 4 | 8 / 8 | 0 | 0.9 / 0.9 | never / never | 0.1 / 0.1 | ok 2, silent 2 | 0.4 / 0.4 |',
  );
  expect(lines[3]).toContain('| worker, killed | 1 | 7.0 | 1,200 |');
});
