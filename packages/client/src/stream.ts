/** Alerts as an `AsyncIterable`: `for await (const alert of alertStream(alerts)) …`, first words and updates alike. */
import type { ViewerAlert } from './alert-shape.ts';
import type { Alerts } from './viewer.ts';

/**
 * Iterates over what comes from now on. An alert counts as handled when the loop asks for the next one, so a slow loop
 * slows the stream like a slow listener. Ends when the loop is left, when the viewer stops for good, is closed, or by `signal`.
 */
export async function* alertStream(alerts: Alerts, signal?: AbortSignal): AsyncGenerator<ViewerAlert, void, undefined> {
  const waiting: { readonly alert: ViewerAlert; readonly handled: () => void }[] = [];
  let wake: () => void = () => undefined;
  let over = (signal?.aborted ?? false) || ['stopped', 'closed'].includes(alerts.phase);
  const take = (alert: ViewerAlert): Promise<void> =>
    new Promise((handled) => {
      waiting.push({ alert, handled });
      wake();
    });
  const finish = (): void => {
    over = true;
    wake();
  };
  const stops = [alerts.on('alert', take), alerts.on('update', take), alerts.on('stopped', finish)];
  stops.push(alerts.on('transition', ({ to }) => void (to === 'closed' && finish())));
  signal?.addEventListener('abort', finish);
  try {
    while (!over || waiting.length > 0) {
      const entry = waiting.shift();
      if (entry === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      try {
        yield entry.alert;
      } finally {
        entry.handled();
      }
    }
  } finally {
    for (const stop of stops) stop();
    signal?.removeEventListener('abort', finish);
    for (const entry of waiting) entry.handled();
  }
}
