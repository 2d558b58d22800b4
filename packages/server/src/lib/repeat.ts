/** Work that is done again and again, one run at a time, whether a run fails or not. */

/** One piece of repeated work. */
export interface Repeated {
  readonly name: string;
  readonly everyMs: number;
  readonly work: () => Promise<unknown>;
}

/** Starts the work; each piece first runs after its time. Answers how to end it: no run is under way after that. */
export function repeat(
  pieces: readonly Repeated[],
  onError: (name: string, error: unknown) => void,
): () => Promise<void> {
  const busy = new Map<string, Promise<unknown>>();
  const timers = pieces.map(({ name, everyMs, work }) =>
    setInterval(() => {
      if (busy.has(name)) return;
      const run = work()
        .catch((error: unknown) => onError(name, error))
        .finally(() => busy.delete(name));
      busy.set(name, run);
    }, everyMs),
  );
  return async () => {
    for (const timer of timers) clearInterval(timer);
    await Promise.all(busy.values());
  };
}
