/**
 * Passwords: argon2id (RFC 9106) with the parameters that OWASP names (19 MiB, 2 passes, 1 lane).
 *
 * Guarantees: at most two are worked on at once (19 MiB each, and half of the runtime's four worker threads), 256 more
 * wait; the work takes the same time whether there is a hash to compare with or not.
 * Failure: a RefusalError `overloaded` when the line is full.
 */
import { randomBytes } from 'node:crypto';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { hash, verify, type Options } from '@node-rs/argon2';
import { hasCode } from '../lib/coded-error.ts';
import { createGate } from '../lib/gate.ts';
import { normalisePassword } from './password-rules.ts';

/** argon2id is the library's default; its enum cannot be named under `isolatedModules`. */
const PARAMETERS: Options = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1, outputLen: 32 };

/** How many are hashed at once, and how many more may wait. */
export interface PasswordBounds {
  readonly atOnce: number;
  readonly waiting: number;
}

/** The bounds of the product. */
export const PASSWORD_BOUNDS: PasswordBounds = { atOnce: 2, waiting: 256 };

/** Hashes and checks passwords. */
export interface Passwords {
  /** The PHC string of a password. */
  hash(password: string): Promise<string>;
  /** Whether `password` is that of `phc`. Null (no such user): false, after as much work. */
  verify(phc: string | null, password: string): Promise<boolean>;
}

/** A new password for a first start: 144 random bits. */
export function newPassword(): string {
  return randomBytes(18).toString('base64url');
}

/** Builds the service; makes the hash that unknown users are compared with. */
export async function createPasswords(bounds: PasswordBounds = PASSWORD_BOUNDS): Promise<Passwords> {
  const gate = createGate(bounds.atOnce, bounds.waiting);
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => gate(work).catch(turnedAway);
  const nobody = await hash(randomBytes(32), PARAMETERS);
  return {
    hash: (password) => inTurn(() => hash(normalisePassword(password), PARAMETERS)),
    async verify(phc, password) {
      const fits = await inTurn(() => verify(phc ?? nobody, normalisePassword(password)));
      return phc !== null && fits;
    },
  };
}

function turnedAway(error: unknown): never {
  if (!hasCode(error, 'gate-full')) throw error;
  throw new RefusalError({ code: 'overloaded', detail: 'Too many sign-ins at once', retryAfterMs: 2000 });
}
