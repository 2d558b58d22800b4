/**
 * Silence of devices: a watcher that tells when a device that reported regularly does so no more, and when it is heard again.
 *
 * It learns the distance between signs of life. To cost no write for each frame it notes a sign of life only when a
 * `stepMs` has passed since the one before, so distances are known where they matter, from one step on. Distances grow into
 * what is usual by at most twofold each time and fade out of it slowly: one gap is not a habit, a slower rhythm soon is.
 *
 * Rule: silent is who was noted three times and has not been heard for `leastMs` or three times its usual distance, whichever
 * is more, while somebody listened all that time (`Watcher.tick`: a server that was down heard nobody). Told once, with
 * the last note as its beginning (to within a step); its end is the next sign of life, of whatever age: being heard is what
 * counts here, not the reading. Who stays silent for `FORGET_MS` is no longer expected.
 */
import type { Notice, Origin, TimedNotice, Watcher, WatcherStep, WatcherTick } from '../profiles/profile.ts';

/** The key under which silences of the whole installation are told. */
export const SILENCE_KEY = 'hosts:silence';

/** Parameters, ms. */
export interface SilenceOptions {
  /** The least silence that is told. */
  readonly leastMs: number;
}

/** What is kept of a device. Times are arrivals, Unix ms. */
export interface SilenceState {
  /** The last sign of life that was noted. */
  readonly heard: number;
  /** The usual distance of notes, ms. */
  readonly usual: number;
  /** How many were noted, up to REGULAR. */
  readonly notes: number;
  /** Its silence was told. */
  readonly silent?: true;
  /** The device is a simulated one. */
  readonly exercise?: true;
}

/** What is told of a device. */
export interface SilenceNotice {
  readonly kind: 'silent' | 'back' | 'gone';
  readonly deviceId: string;
  /** When it was heard last before that, Unix ms. */
  readonly since: number;
  /** When it was found silent, heard again, or given up; Unix ms. */
  readonly at: number;
}

/** Notes that make a device regular. */
const REGULAR = 3;
/** So many usual distances without a sign of life are silence. */
const PATIENCE = 3;
/** However short the least silence is, no device costs a write more often, ms. */
const LEAST_STEP_MS = 1000;
/** No distance counts for more, ms: with PATIENCE a day. */
const MOST_USUAL_MS = 28_800_000;
/** Who has not been regular is forgotten after this, ms. */
const STRANGER_MS = 86_400_000;
/** Who was told silent is given up after this, ms. */
const FORGET_MS = 7 * 86_400_000;

const NONE: readonly Notice[] = [];

/** Builds the watcher. */
export function silenceWatcher({ leastMs }: SilenceOptions): Watcher<SilenceState> {
  const stepMs = Math.max(LEAST_STEP_MS, Math.ceil(leastMs / PATIENCE));
  return {
    name: 'silence',
    step: (state, { deviceId, now, exercise }: Origin): WatcherStep<SilenceState> => {
      if (state === null) {
        const first = { heard: now, usual: 0, notes: 1 };
        return { state: exercise === true ? { ...first, exercise } : first, notices: NONE };
      }
      // Records of one device may arrive in another order than they were received, by a little.
      if (now - state.heard < (state.silent === true ? 1 : stepMs)) return { state, notices: NONE };
      const { silent = false, ...known } = state;
      const usual = learn(state, now - state.heard);
      const heard = { ...known, heard: now, usual, notes: Math.min(REGULAR, state.notes + 1) };
      const back: SilenceNotice = { kind: 'back', deviceId, since: state.heard, at: now };
      return { state: heard, notices: silent ? [{ key: SILENCE_KEY, item: back }] : NONE };
    },
    tick: (state, deviceId, now, listeningSince): WatcherTick<SilenceState> => {
      const tell = (kind: SilenceNotice['kind']): readonly TimedNotice[] => {
        const item: SilenceNotice = { kind, deviceId, since: state.heard, at: now };
        return [{ key: SILENCE_KEY, item, ...(state.exercise === true ? { exercise: true } : {}) }];
      };
      const passed = now - state.heard;
      if (state.silent === true)
        return passed > FORGET_MS ? { state: null, findings: [], notices: tell('gone') } : { state, findings: [] };
      if (state.notes < REGULAR) return { state: passed > STRANGER_MS ? null : state, findings: [] };
      // The last sign of life may be a step later than the last note.
      const most = Math.max(leastMs, PATIENCE * state.usual) + stepMs;
      if (passed < most || now - listeningSince < most) return { state, findings: [] };
      return { state: { ...state, silent: true }, findings: [], notices: tell('silent') };
    },
  };
}

function learn({ usual, notes }: SilenceState, distance: number): number {
  const most = Math.min(distance, MOST_USUAL_MS);
  if (notes === 1) return most;
  // A first frame that was sent by hand long before says nothing of the rhythm: of two distances the shorter one counts.
  if (notes < REGULAR) return Math.min(usual, most);
  return most > usual ? Math.min(most, 2 * usual) : Math.round(usual - (usual - most) / 8);
}
