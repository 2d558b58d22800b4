import { afterAll, describe, expect, test } from 'vitest';
import { BRIDGE_FAULTS, type BridgeFault } from './bridge-faults.ts';
import { type BridgeBench, openBridgeBench } from './bridge-matrix.ts';
import { describeWith } from './needs.ts';

/**
 * By hand: BRIDGE_ROWS=all BRIDGE_ROUNDS=3 BRIDGE_SECONDS=22 npm test -- bridge-faults 2> reports; BRIDGE_ROWS takes names
 * of rows, too, with `;` between them. What is quick and tells most is part of every run.
 */
const ROWS = process.env['BRIDGE_ROWS'];
const ROUNDS = Number(process.env['BRIDGE_ROUNDS'] ?? '1');
const LASTS_MS = Number(process.env['BRIDGE_SECONDS'] ?? '3') * 1000;

const SHORT = [
  'broker, killed and started again',
  'Slack: 429, then 500',
  'the worker that posts, killed with a post in the air',
  'Redis, killed and started empty',
  'PostgreSQL, cut from both',
  'both, ended and started again in turn',
];
const CHOSEN: readonly BridgeFault[] = BRIDGE_FAULTS.filter(
  ({ name }) => ROWS === 'all' || (ROWS?.split(';') ?? SHORT).includes(name),
);

/** By hand each row has the processes that it is about; in every run one start of them is enough for all rows. */
const isShared = (fault: BridgeFault): boolean => ROWS !== undefined && fault.shared;

describeWith(
  ['redis', 'postgres15-postgis', 'mosquitto'],
  'each frame is a reading, each alert a post, whatever happens',
  () => {
    for (const shared of [false, true]) {
      const faults = CHOSEN.filter((fault) => isShared(fault) === shared);
      if (faults.length === 0) continue;
      describe(shared ? 'two processes share the messages' : 'one process is connected, the other stands by', () => {
        let bench: BridgeBench | undefined;
        afterAll(() => bench?.close());

        for (const fault of faults) {
          test(fault.name, { timeout: 60_000 + ROUNDS * (LASTS_MS * 3 + 180_000) }, async () => {
            bench ??= await openBridgeBench(shared);
            for (let round = 0; round < ROUNDS; round += 1) {
              const report = await bench.round(fault, round, LASTS_MS);
              process.stderr.write(`${JSON.stringify(report)}\n`);
              const { acknowledged, stored, different } = report;
              expect.soft(report).toMatchObject({ lost: 0, unequal: 0, behind: 0, viewerFaults: [] });
              expect.soft({ stored, different }).toEqual({ stored: acknowledged, different: acknowledged });
              expect.soft(report).toMatchObject({ alerts: 24, seen: [24, 24], told: 24 });
              expect.soft(report).toMatchObject({ otherTexts: 0, outOfOrder: 0, tooEarly: 0 });
              expect.soft(report.mostTimes).toBeLessThanOrEqual(fault.mayRepeat === true ? 2 : 1);
            }
          });
        }
      });
    }
  },
);
