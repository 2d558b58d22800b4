/**
 * Where a viewer stands, and the one table of what leads where. Pure.
 *
 * There is a *main* connection and, while the viewer moves, a *next* one; the main one delivers until the next one has
 * everything that the main one had.
 */

/** The phases. */
export type Phase =
  /** Not started. */
  | 'idle'
  /** No connection; waits. */
  | 'resting'
  /** The main connection is on its way. */
  | 'opening'
  /** The main connection was welcomed. */
  | 'open'
  /** It was told to move and waits for its turn. */
  | 'leaving'
  /** The next connection is on its way. */
  | 'overlapping'
  /** The next connection was welcomed and catches up. */
  | 'handing-over'
  /** The next connection failed; the main one is kept as long as it lives. */
  | 'clinging'
  /** For good: the server does not want us as we are. */
  | 'stopped'
  /** For good: by the application. */
  | 'closed';

/** What happens. */
export type PhaseEvent =
  | 'start'
  /** A wait is over. */
  | 'due'
  | 'greeted'
  | 'moving'
  | 'next-greeted'
  /** The next connection has everything that the main one had. */
  | 'next-ready'
  | 'next-failed'
  /** The main connection ended. */
  | 'lost'
  /** The main connection ended, and coming back as we are is of no use. */
  | 'refused'
  | 'close';

type Row = Readonly<Record<PhaseEvent, Phase | null>>;

const NOTHING: Row = {
  start: null,
  due: null,
  greeted: null,
  moving: null,
  'next-greeted': null,
  'next-ready': null,
  'next-failed': null,
  lost: null,
  refused: null,
  close: null,
};
/** With a connection of its own a phase ends like this. */
const CONNECTED: Row = { ...NOTHING, lost: 'resting', refused: 'stopped', close: 'closed' };

/** Every phase and event; null: it changes nothing there. */
export const PHASES: Readonly<Record<Phase, Row>> = {
  idle: { ...NOTHING, start: 'opening', refused: 'stopped', close: 'closed' },
  resting: { ...NOTHING, due: 'opening', close: 'closed' },
  opening: { ...CONNECTED, greeted: 'open' },
  open: { ...CONNECTED, moving: 'leaving' },
  leaving: { ...CONNECTED, moving: 'leaving', due: 'overlapping' },
  overlapping: { ...CONNECTED, 'next-greeted': 'handing-over', 'next-failed': 'clinging', lost: 'opening' },
  'handing-over': { ...CONNECTED, 'next-ready': 'open', 'next-failed': 'clinging', lost: 'open' },
  clinging: { ...CONNECTED, moving: 'leaving' },
  stopped: { ...NOTHING, close: 'closed' },
  closed: NOTHING,
};

/** True in phases in which a welcomed connection delivers. */
export function delivers(phase: Phase): boolean {
  return PHASES[phase].lost !== null && phase !== 'opening';
}
