import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWith } from './needs.ts';
import { REALTIME_FAULTS } from './realtime-faults.ts';
import { openRealtimeBench, type RealtimeBench } from './realtime-matrix.ts';

/**
 * By hand: REALTIME_ROUNDS=3 REALTIME_SECONDS=20 npm test -- realtime-matrix 2> reports. REALTIME_ROWS takes names of rows
 * with `;` between them.
 */
const number = (name: string, otherwise: number): number => Number(process.env[name] ?? otherwise);
const ROUNDS = number('REALTIME_ROUNDS', 1);
const LASTS_MS = number('REALTIME_SECONDS', 3) * 1000;
const ROWS = process.env['REALTIME_ROWS']?.split(';');
const SIZE = {
  viewers: number('REALTIME_VIEWERS', 500),
  alertsPerSecond: number('REALTIME_ALERTS', 12),
  cutEveryMs: number('REALTIME_CUT', 5) * 1000,
};

describeWith(['redis', 'postgres15-postgis'], 'every viewer of three instances', () => {
  let bench: RealtimeBench;
  beforeAll(async () => {
    bench = await openRealtimeBench(SIZE);
  });
  afterAll(() => bench?.close());

  for (const fault of REALTIME_FAULTS.filter(({ name }) => ROWS?.includes(name) ?? true)) {
    test(`sees every alert once, in order: ${fault.name}`, { timeout: ROUNDS * (LASTS_MS + 150_000) }, async () => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const report = await bench.round(fault, round, LASTS_MS);
        process.stderr.write(`${JSON.stringify(report)}\n`);
        expect.soft(report).toMatchObject({ behind: 0, faults: [], lost: 0, different: 0, seen: report.expected });
        expect.soft(report.alerts).toBeGreaterThan(0);
        // 503: a handshake while the instance drains or its store is away. Nothing else keeps a viewer out.
        expect.soft(Object.keys(report.refused).filter((status) => status !== '503')).toEqual([]);
        expect.soft(Object.keys(report.notMade).filter((status) => !['0', '503'].includes(status))).toEqual([]);
      }
    });
  }
});
