import { expect, test } from 'vitest';
import { heardTick, type Listening, listeningSince, tickBody } from './listening.ts';

const TICK = 10_000;

/** Since when, after each of these ticks. */
function since(...ticks: readonly number[]): number[] {
  let listening: Listening | null = null;
  return ticks.map((now) => {
    listening = heardTick(listening, now, TICK);
    return listening.since;
  });
}

test('who ticks without a break has listened since its first tick', () => {
  expect(since(5, 10_005, 20_005, 50_005)).toEqual([5, 5, 5, 5]);
});

test('more than three ticks without one are a break: listening begins anew', () => {
  expect(since(0, 10_000, 40_001, 50_000)).toEqual([0, 0, 40_001, 40_001]);
});

test('time that stands still for a backlog, and then leaps, is one, too', () => {
  expect(since(0, 0, 0, 0, 0, 60_000)).toEqual([0, 0, 0, 0, 0, 60_000]);
});

test('time that goes back breaks nothing', () => {
  expect(since(10_000, 9000, 40_000)).toEqual([10_000, 10_000, 10_000]);
});

test('a tick carries it; one of a version that did not say listened from then on', () => {
  expect(listeningSince({ body: tickBody({ since: 7, last: 9 }), receivedAt: 9 })).toBe(7);
  expect(listeningSince({ body: '', receivedAt: 9 })).toBe(9);
  expect(listeningSince({ body: '{}', receivedAt: 9 })).toBe(9);
});
