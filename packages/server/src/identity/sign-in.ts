/**
 * Sign-in of people by e-mail address and password.
 *
 * Guarantees: one answer, `credentials-wrong`, after the same work, whether the account is unknown, disabled or the
 * password wrong; wrong ones are limited (sign-in-limits.ts).
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse, RefusalError } from '@tocsin/protocol/refusal-error';
import type { UserStore } from '../store/ports/identity.ts';
import type { IdentityEvent } from './events.ts';
import type { Passwords } from './passwords.ts';
import type { Sessions, TokenPair } from './sessions.ts';
import type { Attempt, SignInLimits } from './sign-in-limits.ts';
import { normaliseEmail } from './users.ts';

/** The scope of a person's tokens. */
export const PERSON_SCOPE = 'api';

/** What a person gives to sign in. `address`: what limits count the address by. */
export interface SignInRequest {
  readonly email: string;
  readonly password: string;
  readonly address: string;
}

/** What {@link createSignIn} needs. */
export interface SignInOptions {
  readonly users: Pick<UserStore, 'byEmail'>;
  readonly passwords: Pick<Passwords, 'verify'>;
  readonly sessions: Pick<Sessions, 'open'>;
  readonly limits: SignInLimits;
  readonly onEvent: (event: IdentityEvent) => void;
}

/** Builds the sign-in. It throws `credentials-wrong`, `rate-limited`, `overloaded`. */
export function createSignIn(options: SignInOptions): (request: SignInRequest) => Promise<TokenPair> {
  const { users, passwords, sessions, limits, onEvent } = options;

  const enter = async (address: string, email: string): Promise<Attempt> => {
    try {
      return await limits.enter(address, email);
    } catch (error) {
      if (error instanceof RefusalError) onEvent({ kind: 'sign-in', result: 'limited', userId: null, address });
      throw error;
    }
  };

  return async ({ email: text, password, address }) => {
    const email = normaliseEmail(text);
    const attempt = await enter(address, email ?? '');
    const user = email === null ? null : await users.byEmail(email);
    const fits = await passwords.verify(
      user?.passwordHash ?? null,
      password.slice(0, LIMITS.passwordCharacters.value + 1),
    );
    if (user === null || !fits || user.disabledAt !== null) {
      await attempt.failed();
      onEvent({ kind: 'sign-in', result: 'wrong', userId: user?.id ?? null, address });
      throw refuse('credentials-wrong', 'The e-mail address or the password is wrong');
    }
    await attempt.succeeded();
    onEvent({ kind: 'sign-in', result: 'accepted', userId: user.id, address });
    const who = { subject: user.id, userId: user.id, deviceId: null, role: user.role };
    return sessions.open({ ...who, scope: PERSON_SCOPE, fingerprint: null });
  };
}
