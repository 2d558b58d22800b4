/**
 * The clock of an installation on an outside database: this machine's, corrected by the store's when they differ by more
 * than a second. Processes on several machines then agree on when something arrived, whatever their own clocks say:
 * a batch of one that is a minute behind must not land behind the rollups, nor a device be refused for the server's fault.
 *
 * How: as Cristian's algorithm (Distributed Computing 3, 1989): the store's time is taken to be that of the middle of the
 * round trip; round trips over half a second tell nothing. Differences below a second are NTP's business.
 * Guarantee: `monotonic` is never touched. Corrections are told to `onSkew`.
 */
import type { Clock } from '../lib/clock.ts';
import { repeat } from '../lib/repeat.ts';
import type { Database } from '../store/ports/database.ts';

const EVERY_MS = 10_000;
const SLOWEST_TRIP_MS = 500;
const TOLERATED_MS = 1000;
/** Of one comparison at most, until one tells something. */
const TRIPS = 5;

/** A clock with an end. */
export interface StoreClock extends Clock {
  /** Asks the store; also done every 10 s. Rejects as the store does. */
  compare(): Promise<void>;
  stop(): Promise<void>;
}

interface Trip {
  readonly sentAt: number;
  readonly answeredAt: number;
  readonly storeAt: number;
}

function isTelling({ sentAt, answeredAt }: Trip): boolean {
  return answeredAt >= sentAt && answeredAt - sentAt <= SLOWEST_TRIP_MS;
}

/** By how many ms `local` is to be corrected; the correction so far when the round trip tells nothing. Pure. */
export function correction(so: number, trip: Trip): number {
  const { sentAt, answeredAt, storeAt } = trip;
  if (!isTelling(trip)) return so;
  const offset = Math.round(storeAt - (sentAt + answeredAt) / 2);
  return Math.abs(offset) > TOLERATED_MS ? offset : 0;
}

/** Creates it over `local`; `onSkew` hears every change of the correction by more than a second, in ms. */
export function createStoreClock(
  db: Pick<Database, 'query'>,
  local: Clock,
  onSkew: (correctionMs: number) => void,
): StoreClock {
  let corrected = 0;
  const ask = async (): Promise<Trip> => {
    const sentAt = local.now();
    const [row] = await db.query<{ now: number }>('SELECT now_ms() AS now', [], 'store-clock');
    const answeredAt = local.now();
    return { sentAt, answeredAt, storeAt: row?.now ?? answeredAt };
  };
  const compare = async (): Promise<void> => {
    let trip = await ask();
    // The first one may have had to connect.
    for (let again = 1; again < TRIPS && !isTelling(trip); again += 1) trip = await ask();
    const next = correction(corrected, trip);
    if (Math.abs(next - corrected) > TOLERATED_MS) onSkew(next);
    corrected = next;
  };
  const stop = repeat([{ name: 'compare', everyMs: EVERY_MS, work: compare }], () => undefined);
  return { now: () => local.now() + corrected, monotonic: () => local.monotonic(), compare, stop };
}
