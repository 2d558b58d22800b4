/**
 * Connection spikes: far more WebSocket handshakes in a window of time than is usual for the whole installation. Key
 * `system:connections`.
 *
 * Input: what each process counted in each window in which it counted anything (`ConnectionCount`). Counts of a window are
 * added up over the processes; a window without counts held nothing, however long ago it was: no tick is needed. A window is
 * judged whenever one of its counts comes, and learned from (`baseline.ts`) three windows later; what comes after that, or
 * was counted already, changes nothing.
 *
 * Handshakes that were refused count, too. Those that we have caused do not: as many connects as the server closed with
 * 1001 or 1012 (a restart, the end of a process, a new history) are free during the ten minutes that follow.
 *
 * Rule: a window over the threshold begins a spike, which is one alert, told again when a window of it holds half as much
 * again as was told, or is worse. It ends when thirty windows on end hold at most twice of what is usual by then (or less than
 * the floor); until then nothing is another spike. All of it hangs on the counts' own windows and their order in the log.
 */
import { type Severity, severityRank } from '@tocsin/protocol/alert';
import { type Baseline, type BaselineOptions, learn, learnEmpty, NOTHING_USUAL, thresholdOf } from './baseline.ts';
import type { Detector, Finding, Step } from './detector.ts';

/** The key of the whole installation. */
export const CONNECTIONS_KEY = 'system:connections';

/** What one process counted in one window. */
export interface ConnectionCount {
  /** The process, by the name of its start. */
  readonly instance: string;
  /** 1, 2, 3 … of the process: a count that comes twice has the same one. */
  readonly sequence: number;
  /** Unix ms. */
  readonly windowStart: number;
  /** Handshakes that became connections. */
  readonly opened: number;
  /** Those that did not, whoever gave up. */
  readonly refused: number;
  /** Connections that the server closed so that they come back. */
  readonly released: number;
}

/** Parameters. */
export interface SpikeOptions extends BaselineOptions {
  readonly windowMs: number;
}

/**
 * The product's. The floor is what one address may open (`WS_MAX_CONNECTIONS_PER_IP`): a building whose network comes back
 * is no attack. The warm-up is five minutes.
 */
export const SPIKE: SpikeOptions = { windowMs: 10_000, floor: 100, warmUp: 30 };

/** A window that may still get counts. Counts of all processes. */
export interface SpikeWindow {
  /** Its start in windows since 1970. */
  readonly number: number;
  readonly opened: number;
  /** Of `opened`: those that were let go before and came back. */
  readonly returned: number;
  readonly refused: number;
  /** Processes that have counted in it. */
  readonly instances: number;
}

/** The spike that goes on. */
interface Spike {
  /** Number of its first window. */
  readonly begin: number;
  /** Number of its last window that was not quiet. */
  readonly last: number;
  readonly baseline: number;
  readonly threshold: number;
  /** What was told last. */
  readonly told: number;
  readonly severity: Severity;
}

/** What is remembered. */
export interface SpikeState {
  readonly baseline: Baseline;
  /** Number of the newest window that was learned. */
  readonly learned: number;
  /** Number of the newest window that was heard of. */
  readonly newest: number;
  /** Those after `learned`, by number. */
  readonly windows: readonly SpikeWindow[];
  /** The last count of each process that has one after `learned`. */
  readonly heard: Readonly<Record<string, { readonly sequence: number; readonly number: number }>>;
  /** Who was let go and has not come back, by window. */
  readonly away: readonly { readonly number: number; readonly left: number }[];
  readonly spike: Spike | null;
}

/** Windows that may still get counts: processes append theirs when a window ends, and again when the store was away. */
const OPEN = 3;
/** Windows within which those that were let go come back for free; also how far back a clock was set that counts as set. */
const AWAY = 60;
const QUIET = 30;
/** Of what is usual: up to so much is quiet. */
const QUIET_TIMES = 2;
const GROWTH = 1.5;
/** Of the threshold: from so much on a spike is severe. */
const SEVERE = 5;
/** Processes that are told apart at a time. Counts of further ones are left out. */
const MOST_INSTANCES = 1000;

/** The detector of connection spikes. */
export function connectionSpikeDetector(options: SpikeOptions): Detector<SpikeState, unknown> {
  return {
    name: 'connection-spike',
    step: (state, _key, item, now) => {
      const count = readCount(item);
      if (count === null || count.windowStart > now + options.windowMs) return { state, findings: [] };
      const number = Math.floor(count.windowStart / options.windowMs);
      if (state === null || wasSetBack(options, state, number, count, now)) {
        return step(options, begin(number), number, count);
      }
      return step(options, state, number, count);
    },
    tick: (state) => ({ state, findings: [] }),
  };
}

function begin(number: number): SpikeState {
  const learned = number - 1;
  return { baseline: NOTHING_USUAL, learned, newest: number, windows: [], heard: {}, away: [], spike: null };
}

/** The item as a count; null for one that this version does not understand. */
function readCount(item: unknown): ConnectionCount | null {
  const count = item as ConnectionCount | null;
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  if (count === null || typeof count !== 'object' || typeof count.instance !== 'string') return null;
  const { sequence, windowStart, opened, refused, released } = count;
  return [sequence, windowStart, opened, refused, released].every(isCount) ? count : null;
}

/**
 * True when the clock had been far ahead and was set back: the count is not late, and yet lies far behind what was heard. To
 * wait for time to catch up would make us blind until then, so all begins anew.
 */
function wasSetBack(
  { windowMs }: SpikeOptions,
  state: SpikeState,
  number: number,
  { windowStart }: ConnectionCount,
  now: number,
): boolean {
  return state.newest - number > AWAY && now - windowStart <= OPEN * windowMs;
}

function step(options: SpikeOptions, state: SpikeState, number: number, count: ConnectionCount): Step<SpikeState> {
  if (number <= state.learned) return { state, findings: [] };
  const passed = pass(options, state, number - OPEN);
  const before = passed.heard[count.instance];
  const isCounted = before !== undefined && count.sequence <= before.sequence;
  const isOneTooMany = before === undefined && Object.keys(passed.heard).length >= MOST_INSTANCES;
  if (isCounted || isOneTooMany) return { state: passed, findings: [] };
  return judge(options, add(passed, number, count), number);
}

/** Learns the windows up to `until`, and ends a spike that has been quiet. */
function pass(options: SpikeOptions, state: SpikeState, until: number): SpikeState {
  if (until <= state.learned) return state;
  let { baseline, spike, learned } = state;
  const skip = (to: number): void => {
    baseline = learnEmpty(options, baseline, to - learned);
    learned = to;
  };
  for (const window of state.windows) {
    if (window.number > until) break;
    skip(window.number - 1);
    baseline = learn(options, baseline, countedIn(window));
    learned = window.number;
    if (spike !== null && learned - spike.last >= QUIET) spike = null;
  }
  skip(until);
  if (spike !== null && learned - spike.last >= QUIET) spike = null;
  const heard = Object.entries(state.heard).filter(([, last]) => last.number > until);
  return {
    ...state,
    baseline,
    spike,
    learned,
    windows: state.windows.filter((window) => window.number > until),
    heard: Object.fromEntries(heard),
  };
}

/** Adds a count to its window. */
function add(state: SpikeState, number: number, count: ConnectionCount): SpikeState {
  const { instance, sequence, opened, refused, released } = count;
  const newest = Math.max(state.newest, number);
  const { returned, left } = takeReturned(letGo(state.away, newest, number, released), opened);
  const window = state.windows.find((other) => other.number === number) ?? {
    ...{ number, opened: 0, returned: 0, refused: 0, instances: 0 },
  };
  const grown: SpikeWindow = {
    number,
    opened: window.opened + opened,
    returned: window.returned + returned,
    refused: window.refused + refused,
    instances: window.instances + (state.heard[instance]?.number === number ? 0 : 1),
  };
  const others = state.windows.filter((other) => other.number !== number);
  return {
    ...state,
    newest,
    windows: [...others, grown].sort((a, b) => a.number - b.number),
    heard: { ...state.heard, [instance]: { sequence, number } },
    away: left,
  };
}

/** Those that are away, with `released` more of the window `number`; who stayed away too long is forgotten. */
function letGo(away: SpikeState['away'], newest: number, number: number, released: number): SpikeState['away'] {
  const known = away.filter((some) => newest - some.number <= AWAY);
  if (released === 0) return known;
  const left = (known.find((some) => some.number === number)?.left ?? 0) + released;
  return [...known.filter((some) => some.number !== number), { number, left }];
}

/** Who of `opened` was let go before; those that were let go first come back first. */
function takeReturned(away: SpikeState['away'], opened: number): { returned: number; left: SpikeState['away'] } {
  let returned = 0;
  const left: { number: number; left: number }[] = [];
  for (const some of away) {
    const taken = Math.min(some.left, opened - returned);
    returned += taken;
    if (taken < some.left) left.push({ number: some.number, left: some.left - taken });
  }
  return { returned, left };
}

/** What counts of a window. */
function countedIn({ opened, returned, refused }: SpikeWindow): number {
  return opened - returned + refused;
}

function judge(options: SpikeOptions, state: SpikeState, number: number): Step<SpikeState> {
  const window = state.windows.find((other) => other.number === number);
  const threshold = thresholdOf(options, state.baseline);
  if (window === undefined || threshold === null) return { state, findings: [] };
  const counted = countedIn(window);
  if (state.spike !== null) return goOn(options, state, state.spike, window);
  if (counted <= threshold) return { state, findings: [] };
  const spike: Spike = {
    begin: number,
    last: number,
    baseline: state.baseline.mean,
    threshold,
    told: counted,
    severity: severityOf(counted, threshold),
  };
  return { state: { ...state, spike }, findings: [findingOf(options, spike, window)] };
}

function goOn(options: SpikeOptions, state: SpikeState, spike: Spike, window: SpikeWindow): Step<SpikeState> {
  const counted = countedIn(window);
  const isQuiet = counted <= Math.max(options.floor, QUIET_TIMES * state.baseline.mean);
  const last = isQuiet ? spike.last : Math.max(spike.last, window.number);
  const severity = severityOf(counted, spike.threshold);
  const isWorse = severityRank(severity) > severityRank(spike.severity);
  if (!isWorse && counted < GROWTH * spike.told)
    return { state: { ...state, spike: { ...spike, last } }, findings: [] };
  const grown: Spike = { ...spike, last, told: Math.max(counted, spike.told), severity };
  return { state: { ...state, spike: grown }, findings: [findingOf(options, grown, window)] };
}

function severityOf(counted: number, threshold: number): Severity {
  return counted >= SEVERE * threshold ? 'severe' : 'moderate';
}

/** How a spike is told; its onset never changes, so its fingerprint does not either. */
function findingOf({ windowMs }: SpikeOptions, spike: Spike, window: SpikeWindow): Finding {
  const { opened, returned, refused, instances } = window;
  const connects = countedIn(window);
  const seconds = windowMs / 1000;
  const baseline = Math.round(spike.baseline * 10) / 10;
  const threshold = Math.ceil(spike.threshold);
  return {
    kind: 'system.connection-spike',
    severity: spike.severity,
    status: 'actual',
    headline: `Connection spike: ${connects} WebSocket handshakes in ${seconds} s (usual: ${baseline})`,
    description:
      `${connects} WebSocket handshakes in ${seconds} s over the whole installation, ${refused} of them refused; ` +
      `usual are ${baseline}, the alert comes over ${threshold}. A flood, or many clients that lost their connection at once.`,
    zoneId: null,
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: spike.begin * windowMs,
    evidence: {
      ...{ connects, opened, returned, refused, baseline, threshold, instances },
      ...{ windowSeconds: seconds, windowStart: window.number * windowMs },
    },
  };
}
