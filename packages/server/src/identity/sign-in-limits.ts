/**
 * Who may try a password (wire section 6): failures count for the address and for the account, successes for nothing.
 *
 * A correct sign-in is not limited below 60 a minute and address. An attacker can use up an account's or an address's
 * failures, but not shut out its owner: where an account has been signed in from an address within 30 days, this pair
 * has a count of its own (OWASP's "device cookie", with the address for the cookie).
 */
import { RefusalError } from '@tocsin/protocol/refusal-error';
import type { BucketShape, Cells, Limiter } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import { sha256 } from './secrets.ts';

/** All attempts of an address: twice what is promised, against the cost of hashing. */
const ATTEMPTS: BucketShape = { ratePerSecond: 2, burst: 120 };
const FAILURES_OF_ADDRESS: BucketShape = { ratePerSecond: 0.5, burst: 30 };
const FAILURES_OF_ACCOUNT: BucketShape = { ratePerSecond: 1 / 30, burst: 10 };
/** Longer than any count of failures closes a door, in ms: what says more was not written by us. */
const BLOCKED_MOST_MS = 60_000;
const KNOWN_MS = 30 * 86_400_000;

/** One attempt, once it was let through. */
export interface Attempt {
  /** The password was wrong. */
  failed(): Promise<void>;
  /** The password was right. */
  succeeded(): Promise<void>;
}

/** The limits as a service. */
export interface SignInLimits {
  /** Lets an attempt through or throws `rate-limited`. `address`: what limits count an address by. */
  enter(address: string, email: string): Promise<Attempt>;
}

function limited(retryAfterMs: number, detail: string): RefusalError {
  return new RefusalError({ code: 'rate-limited', detail, retryAfterMs: Math.max(1000, Math.ceil(retryAfterMs)) });
}

/** Builds the limits over the bus. Accounts appear in its keys as hashes. */
export function createSignInLimits(
  bus: { readonly limiter: Limiter; readonly cells: Cells },
  clock: Clock,
): SignInLimits {
  const { limiter, cells } = bus;

  const refuseWhenBlocked = async (key: string, detail: string): Promise<void> => {
    const until = await cells.get(`${key}:blocked`);
    if (until === null) return;
    const waitMs = Number(until) - clock.now();
    if (waitMs > 0 && waitMs <= BLOCKED_MOST_MS) throw limited(waitMs, detail);
  };
  const count = async (key: string, shape: BucketShape): Promise<void> => {
    const answer = await limiter.take(key, shape);
    // An empty bucket closes the door until it holds a token again: the limiter cannot be asked without taking.
    if (answer.remaining >= 1) return;
    const waitMs = Math.ceil(answer.allowed ? 1000 / shape.ratePerSecond : answer.retryAfterMs);
    await cells.set(`${key}:blocked`, String(clock.now() + waitMs), waitMs);
  };

  return {
    async enter(address, email) {
      const account = sha256(email).toString('base64url').slice(0, 22);
      const byAddress = `sign-in:address:${address}`;
      const byAccount = `sign-in:account:${account}`;
      const pair = `sign-in:pair:${account}:${address}`;
      const all = await limiter.take(`sign-in:attempts:${address}`, ATTEMPTS);
      if (!all.allowed) throw limited(all.retryAfterMs, 'Too many sign-ins from this address');
      const known = (await cells.get(`${pair}:known`)) !== null;
      if (known) {
        await refuseWhenBlocked(pair, 'Too many wrong sign-ins');
      } else {
        await refuseWhenBlocked(byAddress, 'Too many wrong sign-ins from this address');
        await refuseWhenBlocked(byAccount, 'Too many wrong sign-ins to this account');
      }
      return {
        async failed() {
          if (known) return count(pair, FAILURES_OF_ACCOUNT);
          await count(byAddress, FAILURES_OF_ADDRESS);
          await count(byAccount, FAILURES_OF_ACCOUNT);
        },
        succeeded: () => cells.set(`${pair}:known`, '1', KNOWN_MS),
      };
    },
  };
}
