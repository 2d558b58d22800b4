/**
 * Writes what the hub counts of deliveries to the store, again and again, over the connections that no alarm waits for.
 *
 * A process that is killed loses what it counted since the last time: a second, or up to four while more than 500 messages
 * change at once. A store that is away costs nothing until {@link ACCOUNT_MESSAGES} newer messages have come.
 */
import { repeat } from '../lib/repeat.ts';
import { throttled } from '../ops/throttled-log.ts';
import { createDeliveryAccount, type DeliveryAccount } from '../realtime/delivery.ts';
import type { DeliveryStore } from '../store/ports/deliveries.ts';
import type { Ground } from './ground.ts';

const EVERY_MS = 1000;
/** Rows of one statement, and of one second. */
const ROWS = 500;
/** At the end: enough for everything that is accounted for. */
const LAST_STATEMENTS = 5;

/** Creates the account of a channel, which tells metrics and log. */
export function createAccount({ clock, metrics, log }: Ground): DeliveryAccount {
  const losses = throttled(log, 10_000, clock);
  return createDeliveryAccount({
    clock,
    onReceipt: (seconds) => metrics.receipt.observe({ path: '/ws/alerts' }, seconds),
    onLost: () => void losses.warn('deliveries', {}, 'counts of deliveries went before they could be written'),
  });
}

/** Starts writing. Answers how to end it: what is left is written once more. Nothing rejects. */
export function writeDeliveries(
  ground: Pick<Ground, 'instance' | 'log' | 'clock'>,
  channel: string,
  account: DeliveryAccount,
  store: DeliveryStore,
): () => Promise<void> {
  const { instance, log, clock } = ground;
  const failures = throttled(log, 10_000, clock);
  const write = async (): Promise<number> => {
    const rows = account.take(ROWS);
    try {
      await store.save(channel, instance, rows);
    } catch (error) {
      account.giveBack(rows);
      throw error;
    }
    return rows.length;
  };
  const end = repeat([{ name: 'deliveries', everyMs: EVERY_MS, work: write }], (_name, error) => {
    failures.warn('deliveries', { err: error }, 'counts of deliveries will be written later');
  });
  return async () => {
    await end();
    try {
      for (let n = 0; n < LAST_STATEMENTS && (await write()) === ROWS; n++);
    } catch (error) {
      log.warn({ err: error }, 'the last counts of deliveries were not written');
    }
  };
}
