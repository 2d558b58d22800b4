/** A hook and a component. React puts texts in as text, so nothing that came from outside becomes markup. */
import { type ReactElement, useSyncExternalStore } from 'react';
import type { AlertStore, AlertView } from './alert-store.ts';

const WORDS = {
  protected: 'Protected: every alert so far has been shown.',
  'catching-up': 'Catching up: what was missed is on its way.',
  'not-protected': 'Not protected: an alert would not reach this page now.',
};

/** What the store holds, for a component. */
export function useAlerts(store: AlertStore): AlertView {
  return useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
}

/** The state, and the alerts, the newest first. */
export function AlertBoard({ store }: { readonly store: AlertStore }): ReactElement {
  const { state, alerts, notice } = useAlerts(store);
  return (
    <main>
      <h1>Alerts</h1>
      <p role="status" data-state={state}>
        {WORDS[state]}
      </p>
      {notice === null ? null : <p role="alert">{notice}</p>}
      <ol role="log" aria-label="Alerts" aria-live="assertive" aria-relevant="additions text">
        {alerts.map((alert) => (
          <li key={alert.id} data-severity={alert.severity}>
            <h2>
              {alert.status === 'exercise' ? 'EXERCISE: ' : ''}
              {alert.headline}
            </h2>
            <p>
              {alert.severity}, {alert.state}, {new Date(alert.onset).toLocaleString()}
            </p>
            <p>{alert.description}</p>
          </li>
        ))}
      </ol>
    </main>
  );
}
