/**
 * When envelopes are due: an open loop. The schedule depends on the seed and the plan alone, never on answers, so that a
 * server that stalls is asked as often as before and its wait counts in full (Gil Tene, "How NOT to Measure Latency",
 * Strange Loop 2015: a loop that waits for answers leaves out just the moments that matter). Pure.
 *
 * Times are ms from the start of the run. Sources are endless or end; `peek` never goes back in time.
 */
import type { Felt } from './earthquake.ts';
import type { Random } from './random.ts';

/** What is due. `device` is an index of the fleet; `origin` is no envelope but the beginning of an earthquake. */
export type Arrival =
  | { readonly kind: 'origin'; readonly due: number; readonly number: number }
  | { readonly kind: 'base'; readonly due: number }
  | { readonly kind: 'waveform'; readonly due: number; readonly device: number }
  | { readonly kind: 'earthquake'; readonly due: number; readonly device: number; readonly felt: Felt };

/** Arrivals in the order of time. */
export interface ArrivalSource {
  /** The next one; null at the end. */
  peek(): Arrival | null;
  /** Goes on to the one after. */
  advance(): void;
}

/** `ratePerSecond` envelopes a second: evenly, or by chance with the same mean (a Poisson process). */
export function baseArrivals(ratePerSecond: number, arrival: 'poisson' | 'regular', random: Random): ArrivalSource {
  if (ratePerSecond <= 0) return NONE;
  const gap = 1000 / ratePerSecond;
  let count = 0;
  let due = arrival === 'regular' ? 0 : gap * random.exponential();
  return {
    peek: () => ({ kind: 'base', due }),
    advance() {
      count += 1;
      // A product, not a sum: nothing adds up over millions of envelopes.
      due = arrival === 'regular' ? count * gap : due + gap * random.exponential();
    },
  };
}

/** A packet of each of `devices` every `packetMs`, spread evenly over that time. */
export function waveformArrivals(devices: readonly number[], packetMs: number): ArrivalSource {
  if (devices.length === 0) return NONE;
  let count = 0;
  const dueOf = (): number =>
    (Math.floor(count / devices.length) + 1 + (count % devices.length) / devices.length) * packetMs;
  return {
    peek: () => ({ kind: 'waveform', due: dueOf(), device: devices[count % devices.length] ?? 0 }),
    advance() {
      count += 1;
    },
  };
}

/**
 * What waves make the fleet send. `originOf` answers when earthquake `n` begins, null when there is none; then its arrival
 * of kind `origin` is due, and `begin` is asked for the others that follow from it, in any order.
 */
export function earthquakeArrivals(
  originOf: (n: number) => number | null,
  begin: (n: number) => readonly Arrival[],
): ArrivalSource {
  let n = 0;
  let line: Arrival[] = [];
  const peek = (): Arrival | null => {
    const origin = originOf(n);
    const [first] = line;
    if (origin === null || (first !== undefined && first.due < origin)) return first ?? null;
    return { kind: 'origin', due: origin, number: n };
  };
  return {
    peek,
    advance() {
      if (peek()?.kind !== 'origin') {
        line.shift();
        return;
      }
      line = [...line, ...begin(n)].sort((a, b) => a.due - b.due);
      n += 1;
    },
  };
}

/** Several sources as one. */
export function mergeArrivals(sources: readonly ArrivalSource[]): ArrivalSource {
  const first = (): ArrivalSource | null => {
    let found: ArrivalSource | null = null;
    let due = Infinity;
    for (const source of sources) {
      const at = source.peek()?.due ?? Infinity;
      if (at < due) [found, due] = [source, at];
    }
    return found;
  };
  return { peek: () => first()?.peek() ?? null, advance: () => first()?.advance() };
}

const NONE: ArrivalSource = { peek: () => null, advance: () => undefined };
