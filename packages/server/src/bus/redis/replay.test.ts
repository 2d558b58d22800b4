import { describe, expect, it } from 'vitest';
import { createReplayGuard } from './replay.ts';

describe('messages that were heard already', () => {
  it('are told by their number, for each publisher and topic', () => {
    const guard = createReplayGuard();
    expect([1, 2, 2, 1, 5, 4, 6].map((number) => guard.accept('p', 't', number, 0))).toEqual([
      true,
      true,
      false,
      false,
      true,
      false,
      true,
    ]);
    expect(guard.accept('p', 'other', 1, 0)).toBe(true);
    expect(guard.accept('q', 't', 1, 0)).toBe(true);
  });

  it('are remembered as long as their text may open, and not for ever', () => {
    const guard = createReplayGuard();
    for (let n = 0; n < 500; n++) guard.accept(`p${n}`, 't', 1, n);
    expect(guard.accept('p0', 't', 1, 120_000)).toBe(false);
    guard.accept('q', 't', 1, 120_600);
    expect(guard.size).toBe(1);
  });

  it('are remembered within a bound, the longest silent forgotten first', () => {
    const guard = createReplayGuard();
    for (let n = 0; n < 10_000; n++) guard.accept(`p${n}`, 't', 1, 0);
    guard.accept('p0', 't', 2, 0);
    guard.accept('new', 't', 1, 0);
    expect(guard.size).toBe(10_000);
    expect(guard.accept('p0', 't', 2, 0)).toBe(false);
    expect(guard.accept('p1', 't', 1, 0)).toBe(true);
  });
});
