/**
 * Writes what the hub counts of deliveries to the store, again and again, over the connections that no alarm waits for.
 *
 * A process that is killed loses what it counted since the last time: a second, or up to eight while more than 250 messages
 * change at once. A store that is away costs nothing until {@link ACCOUNT_MESSAGES} newer messages have come.
 */
import { repeat } from '../lib/repeat.ts';
import { throttled } from '../ops/throttled-log.ts';
import { ACCOUNT_MESSAGES, createDeliveryAccount, type DeliveryAccount } from '../realtime/delivery.ts';
import type { DeliveryStore } from '../store/ports/deliveries.ts';
import type { Ground } from './ground.ts';
import { ALERTS_PATH } from '../transports/websocket/request.ts';

const EVERY_MS = 1000;
/** Rows of one statement: a millisecond or two of this thread. */
const ROWS = 125;
/** Statements of one second, one after the other; and at the end, enough for everything that is accounted for. */
const STATEMENTS = 2;
const LAST_STATEMENTS = Math.ceil(ACCOUNT_MESSAGES / ROWS);

/** Creates the account of a channel, which tells metrics and log. */
export function createAccount({ clock, metrics, log }: Ground): DeliveryAccount {
  const losses = throttled(log, 10_000, clock);
  return createDeliveryAccount({
    clock,
    onReceipt: (seconds) => metrics.receipt.observe({ path: ALERTS_PATH }, seconds),
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
  const writeSome = async (): Promise<boolean> => {
    const rows = account.take(ROWS);
    try {
      await store.save(channel, instance, rows);
    } catch (error) {
      account.giveBack(rows);
      throw error;
    }
    return rows.length === ROWS;
  };
  const write = async (statements: number): Promise<void> => {
    for (let n = 0; n < statements && (await writeSome()); n++);
  };
  const end = repeat([{ name: 'deliveries', everyMs: EVERY_MS, work: () => write(STATEMENTS) }], (_name, error) => {
    failures.warn('deliveries', { err: error }, 'counts of deliveries will be written later');
  });
  return async () => {
    await end();
    try {
      await write(LAST_STATEMENTS);
    } catch (error) {
      log.warn({ err: error }, 'the last counts of deliveries were not written');
    }
  };
}
