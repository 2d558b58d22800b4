/** When something that happens with polls is due, so that its period is kept on average and polls do not make it drift. Pure. */

/** A schedule; times are monotonic ms. */
export interface Schedule {
  /** True when it is due at `now`; the next time is then a period later. */
  due(now: number): boolean;
}

/** `earlyMs`: so much too early is better than a whole poll too late. */
export function createSchedule(periodMs: number, earlyMs: number): Schedule {
  let nextAt = 0;
  return {
    due(now) {
      if (now < nextAt - earlyMs) return false;
      nextAt = (now - nextAt > periodMs ? now : nextAt) + periodMs;
      return true;
    },
  };
}
