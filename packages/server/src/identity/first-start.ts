/**
 * The first operator and the first API key.
 *
 * Guarantees: made once for an installation, however many processes start at once and however often; what was given
 * (ADMIN_EMAIL, ADMIN_PASSWORD, API_KEY) is added when it is not there and never overwrites. What was generated is told
 * before it is committed: a crash in between leaves told credentials that do not work, and the next start tells new ones;
 * never credentials that work and that nobody was told.
 */
import type { Clock } from '../lib/clock.ts';
import type { Database, Sql } from '../store/ports/database.ts';
import type { IdentityStores, UserRow } from '../store/ports/identity.ts';
import type { ApiKeys } from './api-keys.ts';
import { newId } from '../lib/ulid.ts';
import { newPassword, type Passwords } from './passwords.ts';
import { newSecret } from './secrets.ts';
import { requireEmail, requirePassword } from './users.ts';

/** The e-mail address of the first operator when none is given. */
export const FIRST_EMAIL = 'admin@tocsin.invalid';

/** What the settings give. */
export interface GivenCredentials {
  readonly adminEmail?: string | undefined;
  readonly adminPassword?: string | undefined;
  readonly apiKey?: string | undefined;
}

/** What was made up and must be shown once; null members were not. */
export interface GeneratedCredentials {
  readonly admin: { readonly email: string; readonly password: string } | null;
  readonly apiKey: string | null;
}

/** Shows or writes down generated credentials; when it rejects, nothing was made. */
export type Announce = (generated: GeneratedCredentials) => Promise<void> | void;

/** What {@link createFirstStart} needs. */
export interface FirstStartOptions {
  readonly db: Database;
  readonly stores: Pick<IdentityStores, 'users'>;
  readonly passwords: Pick<Passwords, 'hash'>;
  readonly apiKeys: Pick<ApiKeys, 'add' | 'announce'>;
  readonly clock: Clock;
}

interface PlannedAdmin {
  readonly user: UserRow;
  readonly password: string;
  readonly generated: boolean;
}

const OPERATOR = 'first-operator';
const API_KEY = 'first-api-key';

/** Builds the first start: an idempotent function to call at every start. */
export function createFirstStart(
  options: FirstStartOptions,
): (given: GivenCredentials, announce: Announce) => Promise<void> {
  const { db, passwords, apiKeys, clock } = options;
  const { users } = options.stores;

  /** The admin to make, null when there is nothing to do. Hashes before the transaction begins. */
  const planAdmin = async (given: GivenCredentials): Promise<PlannedAdmin | null> => {
    const named = given.adminEmail !== undefined || given.adminPassword !== undefined;
    if (!named && (await users.claimed(OPERATOR))) return null;
    const email = requireEmail(given.adminEmail ?? FIRST_EMAIL);
    if ((await users.byEmail(email)) !== null) return null;
    const password = given.adminPassword ?? newPassword();
    requirePassword(password, email);
    const passwordHash = await passwords.hash(password);
    const now = clock.now();
    const user: UserRow = { id: newId(now), email, passwordHash, role: 'admin', createdAt: now, disabledAt: null };
    return { user, password, generated: given.adminPassword === undefined };
  };

  const addAdmin = async (
    sql: Sql,
    plan: PlannedAdmin | null,
    given: GivenCredentials,
  ): Promise<GeneratedCredentials['admin']> => {
    if (plan === null) return null;
    // Of several first starts the others wait here, and find it claimed.
    const first = await users.claim(sql, OPERATOR, plan.user.id);
    if (!first && given.adminEmail === undefined && given.adminPassword === undefined) return null;
    const made = await users.insert(sql, plan.user);
    return made && plan.generated ? { email: plan.user.email, password: plan.password } : null;
  };

  const addApiKey = async (sql: Sql, given: string | undefined): Promise<string | null> => {
    if (given !== undefined) {
      await users.claim(sql, API_KEY, 'given');
      await apiKeys.add(sql, given, 'API_KEY');
      return null;
    }
    if (!(await users.claim(sql, API_KEY, 'generated'))) return null;
    const key = `tocsin_${newSecret()}`;
    return (await apiKeys.add(sql, key, 'first')) ? key : null;
  };

  return async (given, announce) => {
    const plan = await planAdmin(given);
    await db.transaction(async (sql) => {
      const generated = { admin: await addAdmin(sql, plan, given), apiKey: await addApiKey(sql, given.apiKey) };
      if (generated.admin !== null || generated.apiKey !== null) await announce(generated);
    });
    await apiKeys.announce();
  };
}
