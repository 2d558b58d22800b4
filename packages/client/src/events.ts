/** What an application is told. */
import type { ViewerAlert } from './alert-shape.ts';
import type { GapOutcome } from './gap.ts';
import type { Phase, PhaseEvent } from './phases.ts';
import type { ProtectionState } from './protection.ts';

/** How an alert came. */
export interface AlertDetail {
  /** `gap`: fetched afterwards, out of turn. */
  readonly source: 'live' | 'gap';
  /** False where signatures cannot be checked, see {@link StateDetail}. */
  readonly verified: boolean;
}

/** Why the state is what it is. */
export interface StateDetail {
  readonly reason: string;
  /** False: there is no WebCrypto here (a page over plain http), so alerts are shown unchecked. */
  readonly verifying: boolean;
}

/** Something was missed that the live stream does not bring. Told at once (`pending`), and again when it is settled. */
export interface Gap {
  readonly outcome: 'pending' | GapOutcome;
  /** Offsets: the last one handled before it, the first that is live again; null when the channel's history began anew. */
  readonly missed: { readonly after: number; readonly upTo: number } | null;
  /** Alerts that were fetched and were news. */
  readonly alerts: number;
}

/** The server sent what it must not; it was not delivered. */
export interface ViolationDetail {
  /** `shape`: malformed. `signature`: forged. `hole`: an offset was left out twice. */
  readonly reason: 'shape' | 'signature' | 'hole';
  /** Of the message, where it is known. */
  readonly offset: number | null;
  /** How many there were since the start. */
  readonly count: number;
}

/** A step of the connection, for logs. */
export interface Transition {
  readonly from: Phase;
  readonly to: Phase;
  readonly event: PhaseEvent;
  readonly reason: string;
}

/** What went wrong beside the stream, which goes on. */
export interface ErrorDetail {
  /** `handler`: the application's; `resume`: its store of the resume point; `connection`: credentials, what the server answered to a sign-in, or its word. */
  readonly during: 'handler' | 'resume' | 'connection';
  readonly error: unknown;
}

/** The events and their listeners. Promises of `alert` and `update` are waited for, one alert at a time. */
export interface AlertEvents {
  /** The first that this page hears of an alert. It may have been acknowledged or resolved already: see its `state`. */
  alert: (alert: ViewerAlert, detail: AlertDetail) => unknown;
  /** A newer revision of an alert that this page has heard of. */
  update: (alert: ViewerAlert, detail: AlertDetail) => unknown;
  state: (state: ProtectionState, detail: StateDetail) => unknown;
  gap: (gap: Gap) => unknown;
  /** For good: the server does not want this viewer as it is. The reason is a word of `docs/viewer-sdk.md`. */
  stopped: (reason: string) => unknown;
  violation: (violation: ViolationDetail) => unknown;
  error: (detail: ErrorDetail) => unknown;
  transition: (transition: Transition) => unknown;
}
