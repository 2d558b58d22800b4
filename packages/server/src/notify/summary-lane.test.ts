import { describe, expect, it } from 'vitest';
import type { Notifier, Outcome } from './notifier.ts';
import { createSummaryLane } from './summary-lane.ts';

function scripted(...outcomes: Outcome['kind'][]): { posted: string[]; notifier: Notifier } {
  const posted: string[] = [];
  const notifier: Notifier = {
    ...{ kind: 'slack', destination: 'slack', timeoutMs: 1, join: () => 1, close: () => undefined },
    post: () => Promise.resolve({ kind: 'sent' }),
    postText: (text) => {
      posted.push(text);
      return Promise.resolve({ kind: outcomes.shift() ?? 'sent', reason: 'x' });
    },
  };
  return { posted, notifier };
}
const signal = new AbortController().signal;

describe('summaries', () => {
  it('are due in a fixed rhythm that goes on where another holder was', () => {
    const lane = createSummaryLane(
      1000,
      () => ['x'],
      () => undefined,
    );
    expect(lane.due(5000)).toBe(false);
    lane.begin(4500, 5000);
    expect([5000, 5499, 5500, 6499, 6500].map((now) => lane.due(now))).toEqual([false, false, true, false, true]);
    expect(lane.due(9700)).toBe(true);
    expect(lane.waitMs(9700)).toBe(800);
  });

  it('are due at once when they were due long ago, and an interval after the very first start', () => {
    const lane = createSummaryLane(
      1000,
      () => ['x'],
      () => undefined,
    );
    lane.begin(0, 5000);
    expect(lane.waitMs(5000)).toBe(0);
    lane.begin(null, 5000);
    expect(lane.waitMs(5000)).toBe(1000);
  });

  it('are none while there is nothing to say', async () => {
    const lane = createSummaryLane(
      1000,
      () => [],
      () => undefined,
    );
    lane.begin(0, 5000);
    expect(lane.due(5000)).toBe(false);
    expect(await lane.post(scripted().notifier, signal)).toBeNull();
  });

  it('keep their parts until each is sent, and drop all of them when one is refused', async () => {
    const lane = createSummaryLane(
      1000,
      () => ['a', 'b'],
      () => undefined,
    );
    lane.begin(0, 5000);
    lane.due(5000);
    const { posted, notifier } = scripted('later', 'sent', 'later', 'refused');
    for (let n = 0; n < 4; n += 1) await lane.post(notifier, signal);
    expect(posted).toEqual(['a', 'a', 'b', 'b']);
    expect(await lane.post(notifier, signal)).toBeNull();
  });
});
