/**
 * Load shedding: whether the process is so late or so full that taking more work would lose work.
 * Sampled on a timer, so asking costs one read. Leaving the state takes calmer values than entering it (hysteresis).
 */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';

/** Why work is refused, and when to come back. */
export interface Overload {
  readonly reason: 'event-loop' | 'memory';
  readonly retryAfterMs: number;
}

/** One look at the process. */
export interface LoadSample {
  /** Mean delay of the event loop since the last sample, ms. */
  readonly delayMs: number;
  /** Used share of the memory there is, 0..1 (the fuller of heap and process). */
  readonly memory: number;
}

/** Where the line is. `leave` values are below `enter` values. */
export interface LoadLimits {
  readonly enterDelayMs: number;
  readonly leaveDelayMs: number;
  readonly enterMemory: number;
  readonly leaveMemory: number;
  /** So many samples in a row decide a change. */
  readonly samples: number;
}

/** What is remembered between samples. `streak`: samples in a row that speak for a change. */
export interface LoadState {
  readonly overload: Overload['reason'] | null;
  readonly streak: number;
}

/** Watches the load of this process. */
export interface LoadMonitor {
  /** Null, or why more work should be refused. */
  overloaded(): Overload | null;
  /** The last sample. */
  last(): LoadSample;
  stop(): void;
}

/** A mean of 200 ms is a loop that does nothing but catch up; single pauses (garbage, a hash) do not reach it. */
export const LOAD_LIMITS: LoadLimits = {
  enterDelayMs: 200,
  leaveDelayMs: 80,
  enterMemory: 0.92,
  leaveMemory: 0.85,
  samples: 2,
};
const SAMPLE_MS = 500;
const RESOLUTION_MS = 10;
const RETRY_AFTER_MS = 2000;
const NOTHING: LoadState = { overload: null, streak: 0 };

/** The next state after a sample. Pure. */
export function nextLoadState(state: LoadState, sample: LoadSample, limits: LoadLimits): LoadState {
  const target = judge(state, sample, limits);
  if (target === state.overload) return { overload: target, streak: 0 };
  const streak = state.streak + 1;
  return streak >= limits.samples ? { overload: target, streak: 0 } : { overload: state.overload, streak };
}

function judge(state: LoadState, sample: LoadSample, limits: LoadLimits): Overload['reason'] | null {
  const inside = state.overload !== null;
  if (sample.memory > (inside ? limits.leaveMemory : limits.enterMemory)) return 'memory';
  if (sample.delayMs > (inside ? limits.leaveDelayMs : limits.enterDelayMs)) return 'event-loop';
  return null;
}

/** Starts watching. The timer does not keep the process alive; `stop` ends it. */
export function createLoadMonitor(limits: LoadLimits = LOAD_LIMITS, sample?: () => LoadSample): LoadMonitor {
  const histogram = sample === undefined ? monitorEventLoopDelay({ resolution: RESOLUTION_MS }) : undefined;
  histogram?.enable();
  const look = sample ?? createSampler(histogram);
  let state = NOTHING;
  let latest: LoadSample = { delayMs: 0, memory: 0 };
  const timer = setInterval(() => {
    latest = look();
    state = nextLoadState(state, latest, limits);
  }, SAMPLE_MS);
  timer.unref();
  return {
    overloaded: () => (state.overload === null ? null : { reason: state.overload, retryAfterMs: RETRY_AFTER_MS }),
    last: () => latest,
    stop() {
      clearInterval(timer);
      histogram?.disable();
    },
  };
}

function createSampler(histogram: IntervalHistogram | undefined): () => LoadSample {
  const { heap_size_limit: heapLimit } = getHeapStatistics();
  // 0 or a huge number: no limit by a container.
  const constrained = process.constrainedMemory() ?? 0;
  const machine = constrained > 0 && constrained < totalmem() ? constrained : totalmem();
  return () => {
    const mean = histogram?.mean ?? 0;
    histogram?.reset();
    const { heapUsed, rss } = process.memoryUsage();
    return {
      // Without a tick in between there is no mean; the histogram counts its own interval as delay.
      delayMs: Number.isNaN(mean) ? 0 : Math.max(0, mean / 1e6 - RESOLUTION_MS),
      memory: Math.max(heapUsed / heapLimit, rss / machine),
    };
  };
}
