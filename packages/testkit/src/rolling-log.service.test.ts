import { expect, test } from 'vitest';
import { describeWith } from './needs.ts';
import { logRollingRestart } from './rolling-log.ts';

describeWith(['redis', 'postgres15-postgis'], 'three instances that are restarted in turn', () => {
  test('let one viewer go on without missing, doubling or swapping an alert, protected all the time', async () => {
    const log = await logRollingRestart();
    const told = log.lines.join('\n');
    expect(log.exits, told).toEqual([0, 0, 0]);
    // A drill whose answer was lost may be in the channel, too; nothing may be missing, doubled or out of order.
    expect(log.seen, told).toEqual(Array.from({ length: log.seen.length }, (_, i) => i + 1));
    expect(log.seen.length, told).toBeGreaterThanOrEqual(log.made);
    // It moves when its instance ends: at least once, and for each restart at most once.
    expect(told).toContain('open -> leaving: moving');
    expect(told).not.toContain('gap:');
    expect(log.states, told).toEqual(['protected']);
  });
});
