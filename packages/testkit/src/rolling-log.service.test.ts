import { expect, test } from 'vitest';
import { describeWith } from './needs.ts';
import { logRollingRestart } from './rolling-log.ts';

describeWith(['redis', 'postgres15-postgis'], 'three instances that are restarted in turn', () => {
  test('let one viewer go on without missing, doubling or swapping an alert, always connected', async () => {
    const log = await logRollingRestart();
    const told = log.lines.join('\n');
    expect(log.exits, told).toEqual([0, 0, 0]);
    expect(log.seen, told).toEqual(Array.from({ length: log.seen.length }, (_, i) => log.from + 1 + i));
    expect(log.seen.length, told).toBeGreaterThanOrEqual(log.made);
    // It moves when its instance ends; so at least once, and for each restart at most once.
    expect(log.connections, told).toBeGreaterThan(1);
    expect(told).toContain('moving');
    expect(told).not.toContain('recovered false');
  });
});
