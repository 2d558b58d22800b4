import { expect, test } from 'vitest';
import { createClock } from './clock.ts';

test('the clock goes on while the machine sleeps, and is never set back', () => {
  let wall = 1_000_000;
  let steady = 50;
  const clock = createClock(
    () => wall,
    () => steady,
  );
  const pass = (ms: number, awake: number): number => {
    wall += ms;
    steady += awake;
    return clock();
  };
  expect(clock()).toBe(50);
  expect(pass(10_000, 10_000)).toBe(10_050);
  // An hour of sleep, of which the other clock saw nothing.
  expect(pass(3_600_000, 0)).toBe(3_610_050);
  // Somebody sets the wall clock back.
  expect(pass(-7_200_000, 1000)).toBe(3_611_050);
  // Clocks that run a little apart, for a day.
  for (let second = 0; second < 86_400; second++) pass(1000.2, 1000);
  expect(clock()).toBe(3_611_050 + 86_400_000);
});
