/**
 * An API key and an operator for the time of one piece of work, made beside a server and removed after it: what simulated
 * fleets get in with where nobody gave them credentials. The password is random and known to that work only.
 */
import type { Identity } from '../identity/identity.ts';
import { newPassword } from '../identity/passwords.ts';

/** The parts of identity that make and end credentials. */
export type CredentialBook = Pick<Identity, 'apiKeys' | 'users'>;

/** Credentials that were made. */
export interface TemporaryAccess {
  /** Scope `ingest`. Null when none was wanted. */
  readonly apiKey: { readonly id: string; readonly key: string } | null;
  /** Role `operator`. Null when none was wanted. */
  readonly operator: { readonly id: string; readonly email: string; readonly password: string } | null;
}

/** Makes what is wanted, under a name that tells people what it is; all of it or, when it rejects, nothing. */
export async function makeTemporaryAccess(
  { apiKeys, users }: CredentialBook,
  name: string,
  wanted: { readonly apiKey: boolean; readonly operator: boolean },
): Promise<TemporaryAccess> {
  const made = wanted.apiKey ? await apiKeys.create(name, ['ingest']) : null;
  const apiKey = made === null ? null : { id: made.id, key: made.key };
  if (!wanted.operator) return { apiKey, operator: null };
  const password = newPassword();
  try {
    const { id, email } = await users.create({ email: `${name}@simulated.invalid`, password, role: 'operator' });
    return { apiKey, operator: { id, email, password } };
  } catch (error) {
    if (apiKey !== null) await apiKeys.revoke(apiKey.id);
    throw error;
  }
}

/** Removes it. */
export async function removeTemporaryAccess(
  { apiKeys, users }: CredentialBook,
  { apiKey, operator }: TemporaryAccess,
): Promise<void> {
  if (apiKey !== null) await apiKeys.revoke(apiKey.id);
  if (operator !== null) await users.remove(operator.id);
}
