/** A time source that stands still until a test moves it. */
import type { TimeSource } from './time-source.ts';

/** It and its levers. */
export interface FakeTime extends TimeSource {
  /** Moves both clocks on; timers that are due run in their order. */
  advance(ms: number): void;
  /** Moves to the next timer and runs it; answers how far that was, or null when there is none. */
  advanceToNext(): number | null;
  /** Somebody sets the machine's clock. */
  setWall(unixMs: number): void;
  timers(): number;
}

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

/** Starts at `wall` (Unix ms). */
export function createFakeTime(wall: number): FakeTime {
  let unix = wall;
  let counter = 5000;
  const timers = new Set<Timer>();
  const first = (): Timer | undefined => [...timers].toSorted((a, b) => a.at - b.at)[0];
  const move = (ms: number): void => {
    unix += ms;
    counter += ms;
  };
  const advance = (ms: number): void => {
    const end = counter + ms;
    for (let timer = first(); timer !== undefined && timer.at <= end; timer = first()) {
      timers.delete(timer);
      move(Math.max(timer.at - counter, 0));
      timer.run();
    }
    move(end - counter);
  };
  return {
    wall: () => unix,
    monotonic: () => counter,
    after: (ms, run) => {
      const timer = { at: counter + ms, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    advance,
    advanceToNext: () => {
      const timer = first();
      if (timer === undefined) return null;
      const ms = Math.max(timer.at - counter, 0);
      advance(ms);
      return ms;
    },
    setWall: (value) => {
      unix = value;
    },
    timers: () => timers.size,
  };
}
