import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type KillBench, openKillBench } from './kill-matrix.ts';

/** More rounds by hand: KILL_ROUNDS=20 npm test -- kill-matrix */
const ROUNDS = Number(process.env['KILL_ROUNDS'] ?? '1');

describe('kill -9 at any moment loses nothing that was accepted', () => {
  let folder: string;
  let bench: KillBench;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tocsin-kill-'));
    // Open to traverse, so that the cluster stays inside it when this runs as root.
    await chmod(folder, 0o755);
    bench = await openKillBench(folder);
  });
  afterAll(async () => {
    await bench?.close();
    await rm(folder, { recursive: true, force: true });
  });

  test.each(['server', 'postgres', 'both'] as const)('killed: %s', async (victim) => {
    for (let i = 0; i < ROUNDS; i += 1) {
      const report = await bench.round(victim, `${victim}${i}`);
      process.stderr.write(`${JSON.stringify(report)}\n`);
      expect(report).toMatchObject({ strange: {}, alerts: 1, seen: 1, viewerFaults: [] });
      expect(report.stored).toBe(report.accepted);
    }
  });
});
