/**
 * The viewer SDK as a store for React: connects with the first subscriber, ends a moment after the last one, so that
 * React's mounting twice in development is one connection.
 */
import {
  type Alerts,
  type ConnectOptions,
  connectAlerts,
  type ProtectionState,
  type ViewerAlert,
} from '@tocsin/client';

/** What a component shows. A new object with every change. */
export interface AlertView {
  readonly state: ProtectionState;
  readonly reason: string;
  /** The newest first, each as it stands now. */
  readonly alerts: readonly ViewerAlert[];
  /** Something may have been missed, or was not genuine. */
  readonly notice: string | null;
}

/** For `useSyncExternalStore`. */
export interface AlertStore {
  subscribe(listener: () => void): () => void;
  getSnapshot(): AlertView;
}

const SHOWN_MOST = 100;
const LINGER_MS = 1000;
const NOTHING: AlertView = { state: 'not-protected', reason: 'idle', alerts: [], notice: null };

/** Creates it; nothing is connected yet. */
export function createAlertStore(options: ConnectOptions): AlertStore {
  const listeners = new Set<() => void>();
  let view = NOTHING;
  let connection: Alerts | null = null;
  let ending: ReturnType<typeof setTimeout> | undefined;

  function change(next: Partial<AlertView>): void {
    view = { ...view, ...next };
    for (const listener of listeners) listener();
  }
  function show(alert: ViewerAlert): void {
    const others = view.alerts.filter(({ id }) => id !== alert.id);
    const place = view.alerts.findIndex(({ id }) => id === alert.id);
    // An update keeps its place; what is new goes on top.
    change({ alerts: others.toSpliced(Math.max(0, place), 0, alert).slice(0, SHOWN_MOST) });
  }
  function connect(): Alerts {
    const alerts = connectAlerts(options);
    alerts.on('alert', show);
    alerts.on('update', show);
    alerts.on('state', (state, { reason }) => change({ state, reason }));
    alerts.on('stopped', (reason) => change({ notice: `The server has turned this page away (${reason}).` }));
    alerts.on('violation', () => change({ notice: 'Something that is not a genuine alert is not shown.' }));
    alerts.on('gap', ({ outcome }) => {
      if (outcome === 'partly' || outcome === 'unreachable') change({ notice: 'Some alerts may have been missed.' });
    });
    return alerts;
  }

  return {
    subscribe(listener) {
      listeners.add(listener);
      clearTimeout(ending);
      connection ??= connect();
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0) return;
        ending = setTimeout(() => {
          connection?.close();
          connection = null;
          view = NOTHING;
        }, LINGER_MS);
      };
    },
    getSnapshot: () => view,
  };
}
