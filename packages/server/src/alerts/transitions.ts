/** What people may do to an alert: one table, every state by every action. A finding that ends one resolves it by the same. Pure. */
import type { AlertState } from '@tocsin/protocol/alert';

/** What an operator does. */
export const ALERT_ACTIONS = ['acknowledge', 'resolve'] as const;
/** See {@link ALERT_ACTIONS}. */
export type AlertAction = (typeof ALERT_ACTIONS)[number];

/** Where an action leads. `unchanged`: it was done already; nothing is told again. */
export type Transition =
  | { readonly outcome: 'changed'; readonly state: AlertState }
  | { readonly outcome: 'unchanged' }
  | { readonly outcome: 'transition-forbidden' };

const UNCHANGED: Transition = { outcome: 'unchanged' };
const FORBIDDEN: Transition = { outcome: 'transition-forbidden' };

/** The table. A resolved alert stays resolved: what happens next has an onset, so a fingerprint, of its own. */
export const TRANSITIONS: Readonly<Record<AlertState, Readonly<Record<AlertAction, Transition>>>> = {
  open: {
    acknowledge: { outcome: 'changed', state: 'acknowledged' },
    resolve: { outcome: 'changed', state: 'resolved' },
  },
  acknowledged: { acknowledge: UNCHANGED, resolve: { outcome: 'changed', state: 'resolved' } },
  resolved: { acknowledge: FORBIDDEN, resolve: UNCHANGED },
};

/** The transition of an alert in `state`. */
export function transition(state: AlertState, action: AlertAction): Transition {
  return TRANSITIONS[state][action];
}
