import { describe, expect, test } from 'vitest';
import type { Reading } from '@tocsin/protocol/envelope';
import type { LogRecord } from '../store/ports/log.ts';
import { cycle, type CycleLoop } from './cycle.ts';
import { newOwned, BATCH_RECORDS, type Owned } from './partition-state.ts';
import type { WorkerOptions } from './worker-options.ts';

const NOW = 1_000_000;

function record(partition: number, offset: number, receivedAt: number): LogRecord {
  const context = { device: 1, zone: null, zoneId: null };
  return { partition, offset, kind: 'envelope', receivedAt, key: 'd', traceparent: null, context, body: '[]' };
}

/** One cycle of two partitions over what a read gives; answers their positions and whether more is due. */
async function once(
  read: readonly LogRecord[],
  partitions: readonly [number, number],
  known: Partial<Owned> = {},
): Promise<unknown> {
  const owned = new Map(
    partitions.map(
      (partition) => [partition, { ...newOwned({ partition, fence: 1, position: 0 }), ...known }] as const,
    ),
  );
  const options: Pick<WorkerOptions<never>, 'log' | 'store' | 'meaning' | 'complete' | 'now' | 'events'> = {
    log: { partitions: 16, read: async () => [...read] } as Partial<
      WorkerOptions<never>['log']
    > as WorkerOptions<never>['log'],
    store: {
      loadStates: async () => [],
      commitPlain: async () => true,
    } as Partial<WorkerOptions<never>['store']> as WorkerOptions<never>['store'],
    meaning: {
      decode: ({ body }) => ({ id: 'e', at: 0, profile: 'host', readings: JSON.parse(body) as Reading[] }),
      measure: () => ({ value: 0, fields: null }),
      notice: () => [],
      detectors: () => [],
    },
    complete: async () => {
      throw new Error('nothing is found here');
    },
    now: () => NOW,
    events: { retry: () => undefined, failed: () => undefined, lost: () => undefined },
  };
  const loop: CycleLoop = {
    owned,
    heldSince: new Map(),
    wake: () => undefined,
    lose: () => undefined,
    take: async () => undefined,
  };
  await cycle(options as WorkerOptions<never>, loop, [...owned.values()]);
  return [...owned.values()].map(({ lease, due }) => [lease.partition, lease.position, due]);
}

/** A read that ended at its limit, far behind. */
const flood = (partition: number): LogRecord[] =>
  Array.from({ length: BATCH_RECORDS }, (_, i) => record(partition, i + 1, i));

describe('a cycle', () => {
  test('a partition that is held back for a slower one stays due: it does not wait for the next poll', async () => {
    expect(await once([...flood(0), record(1, 1, 500_000)], [0, 1])).toEqual([
      [0, BATCH_RECORDS, true],
      [1, 0, true],
    ]);
  });

  test('behind what is remembered the store is asked only when others may have appended, until it was', async () => {
    const mine = { ...record(0, 1, NOW), epoch: 'e' };
    const other = { ...record(1, 1, NOW), epoch: 'e' };
    // Just taken: others may have appended.
    expect(await once([mine, other], [0, 1])).toEqual([
      [0, 1, true],
      [1, 1, true],
    ]);
    expect(await once([mine, other], [0, 1], { beyond: false })).toEqual([
      [0, 1, false],
      [1, 1, false],
    ]);
  });

  test('what has just arrived is worked off, however far another partition is behind', async () => {
    expect(await once([...flood(0), record(1, 1, NOW - 50)], [0, 1])).toEqual([
      [0, BATCH_RECORDS, true],
      [1, 1, true],
    ]);
  });

  test('partitions of zones and networks wait for no other: each hears all of its own in one partition', async () => {
    expect(await once([...flood(12), record(13, 1, 500_000)], [12, 13])).toEqual([
      [12, BATCH_RECORDS, true],
      [13, 1, true],
    ]);
  });
});
