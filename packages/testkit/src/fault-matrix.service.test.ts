import { afterAll, describe, expect, test } from 'vitest';
import { type FaultBench, openFaultBench } from './fault-matrix.ts';
import { BENCHES, type Fault, FAULTS, faultName } from './faults.ts';
import { describeWith } from './needs.ts';

/**
 * By hand: FAULT_ROWS=all FAULT_ROUNDS=5 FAULT_FREEZE=20 npm test -- fault-matrix 2> reports; FAULT_ROWS takes names of
 * rows, too, with `;` between them. What is quick and tells most is part of every run.
 */
const ROWS = process.env['FAULT_ROWS'];
const ROUNDS = Number(process.env['FAULT_ROUNDS'] ?? '1');
/** Longer than a lease of 3 s. */
const LASTS_MS = Number(process.env['FAULT_FREEZE'] ?? '7') * 1000;

const SHORT = [
  'gateway, frozen',
  'worker, frozen',
  'PostgreSQL, killed',
  'Redis, frozen',
  'Redis master, promoted by Sentinel, killed',
  'log on Redis Streams: Redis, killed',
];
const CHOSEN: readonly Fault[] = FAULTS.filter(
  (fault) => ROWS === 'all' || (ROWS?.split(';') ?? SHORT).includes(faultName(fault)),
);

describeWith(['redis', 'postgres15-postgis'], 'whatever dies, freezes or is cut off, every reading counts once', () => {
  for (const name of BENCHES) {
    const faults = CHOSEN.filter((fault) => fault.bench === name);
    if (faults.length === 0) continue;
    describe(name, () => {
      let bench: FaultBench | undefined;
      afterAll(() => bench?.close());

      for (const fault of faults) {
        test(faultName(fault), { timeout: ROUNDS * 180_000 }, async () => {
          bench ??= await openFaultBench(name);
          for (let round = 0; round < ROUNDS; round += 1) {
            const report = await bench.round(fault, round, LASTS_MS);
            process.stderr.write(`${JSON.stringify(report)}\n`);
            expect.soft(report).toMatchObject({ strange: {}, alerts: 2, seen: [2, 2, 2, 2], viewerFaults: [] });
            const { accepted, stored, rows, envelopes } = report;
            expect.soft({ stored, rows, envelopes }).toEqual({ stored: accepted, rows: accepted, envelopes: accepted });
            expect.soft([report.alertMs, report.laterAlertMs, report.okAfterMs]).not.toContain(null);
          }
        });
      }
    });
  }
});
