import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Clock } from '../lib/clock.ts';
import { quantiles } from '../lib/sketch.ts';
import type { DeliveryRow } from '../store/ports/deliveries.ts';
import { ACCOUNT_MS, type Accountable, createDeliveryAccount, type DeliveryAccount } from './delivery.ts';

const ALL = { zone: null, minSeverity: null };
const ZONE = { zone: 'z1', minSeverity: null };
const SEVERE = { zone: null, minSeverity: 'severe' as const };

let time = 0;
const clock: Clock = { now: () => time, monotonic: () => time };
beforeEach(() => {
  time = 1_000_000;
});

const message = (offset: number, more: Partial<Accountable> = {}): Accountable => ({
  offset,
  at: time,
  zoneId: null,
  severity: 3,
  ...more,
});
const open = (messages?: number): { account: DeliveryAccount; lost: ReturnType<typeof vi.fn>; seconds: number[] } => {
  const lost = vi.fn();
  const seconds: number[] = [];
  const onReceipt = (value: number): void => void seconds.push(value);
  const bound = messages === undefined ? {} : { messages };
  return { account: createDeliveryAccount({ clock, onLost: lost, onReceipt, ...bound }), lost, seconds };
};
const all = (account: DeliveryAccount): DeliveryRow[] => account.take(5000).sort((a, b) => a.offset - b.offset);
const one = (account: DeliveryAccount): DeliveryRow | undefined => all(account)[0];

describe('a message', () => {
  it('counts the viewers that are there and whose filter lets it through', () => {
    const { account } = open();
    for (const filter of [ALL, ALL, ZONE, SEVERE]) account.opened(filter);
    account.published(message(1));
    account.published(message(2, { zoneId: 'z1', severity: 1 }));
    account.closed(ALL);
    account.closed(SEVERE);
    account.published(message(3));
    expect(all(account).map(({ offset, connected }) => [offset, connected])).toEqual([
      [1, 3],
      [2, 3],
      [3, 1],
    ]);
  });

  it('for which nobody is there leaves no row', () => {
    const { account } = open();
    account.opened(ZONE);
    account.published(message(1));
    expect(all(account)).toEqual([]);
  });

  it('tells when it was handed over first and last, and how long that took', () => {
    const { account } = open();
    account.opened(ALL);
    const entry = message(1);
    account.published(entry);
    time += 3;
    account.handed([entry], 90);
    time += 40;
    account.handed([entry], 10);
    const row = one(account);
    expect(row).toMatchObject({ sent: 100, resent: 0, firstSentAt: 1_000_003, lastSentAt: 1_000_043 });
    const [p50 = 0, p95 = 0] = quantiles(row?.send ?? { bins: [], counts: [] }, [0.5, 0.95], 3, 43) ?? [];
    expect([p50, Math.round(p95)]).toEqual([3, 43]);
  });

  it('that is sent again to those who resume counts apart, and in no time of sending', () => {
    const { account } = open();
    account.opened(ALL);
    const entry = message(1);
    account.published(entry);
    account.handed([entry], 1);
    time += 5000;
    account.caughtUp([entry], 1);
    expect(one(account)).toMatchObject({ sent: 1, resent: 1, lastSentAt: 1_000_000, send: { counts: [1] } });
  });

  it('that nobody was there for begins to count when somebody resumes over it', () => {
    const { account } = open();
    const entry = message(1);
    account.published(entry);
    account.caughtUp([entry], 1);
    account.received(ALL, 0, 1);
    expect(one(account)).toMatchObject({ connected: 0, sent: 0, resent: 1, received: 1, firstSentAt: null });
  });
});

describe('a receipt', () => {
  it('covers what lies after the one before, as far as the filter lets it through', () => {
    const { account, seconds } = open();
    account.opened(ZONE);
    for (const offset of [1, 2, 3, 4]) account.published(message(offset, { zoneId: offset === 2 ? 'z2' : 'z1' }));
    time += 250;
    account.received(ZONE, 0, 3);
    time += 250;
    account.received(ZONE, 3, 4);
    expect(all(account).map(({ offset, received, firstReceivedAt }) => [offset, received, firstReceivedAt])).toEqual([
      [1, 1, 1_000_250],
      [3, 1, 1_000_250],
      [4, 1, 1_000_500],
    ]);
    expect(seconds).toEqual([0.25, 0.5]);
  });

  it('costs no more than the account holds, however far it reaches back', () => {
    const { account } = open(10);
    account.opened(ALL);
    account.published(message(5_000_000_000));
    account.received(ALL, 0, 5_000_000_000);
    expect(one(account)).toMatchObject({ received: 1 });
  });
});

describe('the account', () => {
  it('answers what has changed, once, with absolute numbers', () => {
    const { account } = open();
    account.opened(ALL);
    const entry = message(1);
    account.published(entry);
    expect(one(account)).toMatchObject({ connected: 1, sent: 0 });
    expect(all(account)).toEqual([]);
    account.handed([entry], 1);
    expect(one(account)).toMatchObject({ connected: 1, sent: 1 });
  });

  it('answers again what could not be written', () => {
    const { account } = open();
    account.opened(ALL);
    account.published(message(1));
    account.giveBack(account.take(10));
    expect(all(account)).toHaveLength(1);
  });

  it('gives every change its turn when there are more than fit', () => {
    const { account } = open(10);
    account.opened(ALL);
    for (let offset = 1; offset <= 10; offset++) account.published(message(offset));
    const taken = [account.take(4), account.take(4), account.take(4)].flat().map(({ offset }) => offset);
    expect(taken.sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  it('holds the newest messages, and tells what goes before it was taken', () => {
    const { account, lost } = open(3);
    account.opened(ALL);
    const entries = [1, 2, 3, 4].map((offset) => message(offset));
    for (const entry of entries.slice(0, 3)) account.published(entry);
    all(account);
    account.published(message(4));
    expect(lost).not.toHaveBeenCalled();
    account.published(message(5));
    account.published(message(6));
    account.published(message(7));
    expect(lost).toHaveBeenCalledTimes(1);
    account.handed(entries, 1);
    account.caughtUp(entries.slice(0, 1), 7);
    expect(all(account).map(({ offset, sent }) => [offset, sent])).toEqual([
      [5, 0],
      [6, 0],
      [7, 0],
    ]);
  });

  it('begins nothing anew for a message that it has forgotten, so that its row stays as it is', () => {
    const { account } = open();
    account.opened(ALL);
    const entry = message(1);
    account.published(entry);
    all(account);
    time += ACCOUNT_MS;
    all(account);
    account.caughtUp([entry], 1);
    expect(one(account)).toMatchObject({ connected: 1, resent: 1 });
    time += 1;
    all(account);
    account.caughtUp([entry], 1);
    account.handed([entry], 1);
    account.received(ALL, 0, 1);
    time -= 10;
    account.caughtUp([entry], 1);
    expect(all(account)).toEqual([]);
  });

  it('keeps an old message until its changes are written', () => {
    const { account } = open();
    account.opened(ALL);
    account.published(message(1));
    const rows = account.take(10);
    account.giveBack(rows);
    time += 2 * ACCOUNT_MS;
    expect(all(account)).toHaveLength(1);
  });

  it('forgets everything when history begins anew, but not who is there', () => {
    const { account } = open();
    account.opened(ALL);
    account.published(message(9));
    account.clear();
    expect(all(account)).toEqual([]);
    account.published(message(1));
    expect(one(account)).toMatchObject({ offset: 1, connected: 1 });
  });
});
