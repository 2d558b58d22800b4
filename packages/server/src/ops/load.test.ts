import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LOAD_LIMITS, type LoadSample, type LoadState, createLoadMonitor, nextLoadState } from './load.ts';

const calm: LoadSample = { delayMs: 1, memory: 0.1 };
const late: LoadSample = { delayMs: LOAD_LIMITS.enterDelayMs + 1, memory: 0.1 };
const between: LoadSample = { delayMs: (LOAD_LIMITS.enterDelayMs + LOAD_LIMITS.leaveDelayMs) / 2, memory: 0.1 };
const full: LoadSample = { delayMs: 1, memory: LOAD_LIMITS.enterMemory + 0.01 };

function after(...samples: LoadSample[]): LoadState['overload'] {
  return samples.reduce<LoadState>((state, sample) => nextLoadState(state, sample, LOAD_LIMITS), {
    overload: null,
    streak: 0,
  }).overload;
}

describe('load shedding', () => {
  it('begins after as many bad samples in a row as the limits say, and not by a single pause', () => {
    expect(after(late)).toBeNull();
    expect(after(late, calm, late)).toBeNull();
    expect(after(late, late)).toBe('event-loop');
    expect(after(full, full)).toBe('memory');
  });

  it('ends only below calmer values than it began at', () => {
    expect(after(late, late, between, between, between)).toBe('event-loop');
    expect(after(late, late, calm)).toBe('event-loop');
    expect(after(late, late, calm, calm)).toBeNull();
  });

  it('ends after calm samples whatever came before', () => {
    const anySample = fc.record({
      delayMs: fc.double({ min: 0, max: 5000, noNaN: true }),
      memory: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(anySample), (samples) => {
        expect(after(...samples, calm, calm)).toBeNull();
      }),
    );
  });
});

describe('the load monitor', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('samples on a timer, says when to come back, and stops', () => {
    let sample = late;
    const monitor = createLoadMonitor(LOAD_LIMITS, () => sample);
    expect(monitor.overloaded()).toBeNull();
    vi.advanceTimersByTime(1000);
    expect(monitor.overloaded()).toEqual({ reason: 'event-loop', retryAfterMs: 2000 });
    sample = calm;
    vi.advanceTimersByTime(1000);
    expect(monitor.overloaded()).toBeNull();
    monitor.stop();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('looks at the process itself when it is given nothing else', () => {
    const monitor = createLoadMonitor();
    vi.advanceTimersByTime(500);
    expect(monitor.last().memory).toBeGreaterThan(0);
    expect(monitor.last().memory).toBeLessThan(1);
    monitor.stop();
  });
});
