/** How far workers are behind: heads against positions of the log, looked at once a second. */
import { repeat } from '../lib/repeat.ts';
import type { Log, PartitionState } from '../store/ports/log.ts';

/** What is known of it. While the store is away it stays what it was. */
export interface Backlog {
  /** Records that no worker has worked off yet, in all partitions. */
  records(): number;
  partitions(): readonly PartitionState[];
  stop(): Promise<void>;
}

const EVERY_MS = 1000;

/** Starts watching. */
export function watchBacklog(log: Pick<Log, 'state'>): Backlog {
  let states: readonly PartitionState[] = [];
  let records = 0;
  const look = async (): Promise<void> => {
    states = await log.state();
    records = states.reduce((sum, { head, position }) => sum + head - position, 0);
  };
  const stop = repeat([{ name: 'backlog', everyMs: EVERY_MS, work: look }], () => undefined);
  void look().catch(() => undefined);
  return { records: () => records, partitions: () => states, stop };
}
