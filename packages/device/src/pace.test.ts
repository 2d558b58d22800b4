import { describe, expect, it } from 'vitest';
import { createPace, type Pace } from './pace.ts';
import { readTuning } from './tuning.ts';

const TUNING = readTuning({ inFlight: 8, backOffFirstMs: 1000, backOffMostMs: 10_000 });
const middle = (): Pace => createPace(TUNING, () => 0.5);
const none = { retryAfterMs: null };

describe('the pace', () => {
  it('is the whole window until something fails, then one at a time until one is delivered', () => {
    const pace = middle();
    expect(pace.window(0)).toBe(8);
    pace.failed({ action: 'wait', reason: 'timeout' }, { now: 0, sentAt: 0, ...none });
    expect(pace.pause()).toEqual({ until: 550, reason: 'timeout', refused: false });
    expect(pace.window(549)).toBe(0);
    expect(pace.window(550)).toBe(1);
    pace.delivered(600);
    expect(pace.window(600)).toBe(8);
    expect(pace.pause()).toBeNull();
  });

  it('doubles its back-off to the bound, and begins anew after a success', () => {
    const pace = middle();
    const waits = [];
    let now = 0;
    for (let failure = 0; failure < 6; failure += 1) {
      pace.failed({ action: 'wait', reason: 'timeout' }, { now, sentAt: now, ...none });
      const until = pace.pause()?.until ?? 0;
      waits.push(until - now);
      now = until;
    }
    expect(waits).toEqual([550, 1100, 2200, 4400, 5500, 5500]);
    pace.delivered(now);
    pace.failed({ action: 'wait', reason: 'timeout' }, { now, sentAt: now, ...none });
    expect((pace.pause()?.until ?? 0) - now).toBe(550);
  });

  it('counts a window that fails together as one failure', () => {
    const pace = middle();
    for (let each = 0; each < 8; each += 1) {
      pace.failed({ action: 'wait', reason: 'connection-lost' }, { now: 100, sentAt: 50, ...none });
    }
    expect(pace.pause()?.until).toBe(100 + 550);
  });

  it('waits as long as the server says, never shorter, and a success of another does not end it', () => {
    const pace = middle();
    pace.failed({ action: 'wait', reason: 'rate-limited' }, { now: 0, sentAt: 0, retryAfterMs: 30_000 });
    expect(pace.pause()?.until).toBe(33_000);
    pace.delivered(10);
    pace.failed({ action: 'wait', reason: 'timeout' }, { now: 20, sentAt: 15, ...none });
    expect(pace.pause()).toEqual({ until: 33_000, reason: 'rate-limited', refused: false });
    expect(pace.window(32_999)).toBe(0);
  });

  it('backs off where the server is busy and does not say for how long', () => {
    const pace = middle();
    pace.failed({ action: 'wait', reason: 'busy' }, { now: 0, sentAt: 0, ...none });
    expect(pace.pause()?.until).toBe(550);
  });

  it('waits long where an operator has to act, longer each time to its bound', () => {
    const pace = middle();
    let now = 0;
    const waits = [];
    for (let refusal = 0; refusal < 6; refusal += 1) {
      pace.failed({ action: 'hold', reason: 'device-blocked' }, { now, sentAt: now, ...none });
      expect(pace.pause()?.refused).toBe(true);
      const until = pace.pause()?.until ?? 0;
      waits.push(until - now);
      now = until;
    }
    expect(waits).toEqual([46_500, 63_000, 96_000, 162_000, 277_500, 277_500]);
    expect(pace.window(now)).toBe(1);
  });
});
