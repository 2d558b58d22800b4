/**
 * A sender that is not faster than it should be: after an outage a whole fleet has a backlog, and a server or broker that
 * just came back is not to be run over.
 * Guarantee: between the beginnings of two tries lie at least `gapMs`; what waits when it is closed answers at once.
 */
import type { Sender } from '../sender.ts';
import type { TimeSource } from '../time-source.ts';

/** Slows `sender` down. */
export function createPacedSender(sender: Sender, gapMs: number, time: TimeSource): Sender {
  let next = 0;
  let closed = false;
  const cuts = new Set<() => void>();
  const turn = (): Promise<void> => {
    const now = time.monotonic();
    const at = Math.max(next, now);
    next = at + gapMs;
    if (at <= now || closed) return Promise.resolve();
    return new Promise((resolve) => {
      const go = (): void => {
        forget();
        cuts.delete(go);
        resolve();
      };
      const forget = time.after(at - now, go);
      cuts.add(go);
    });
  };
  return {
    send: async (sealed, id) => {
      await turn();
      // A late timer must not bring the next one closer.
      next = Math.max(next, time.monotonic() + gapMs);
      return closed ? { kind: 'failed', reason: 'connection-lost' } : sender.send(sealed, id);
    },
    askTime: () => sender.askTime(),
    close: async () => {
      closed = true;
      for (const cut of cuts) cut();
      await sender.close();
    },
  };
}
