/**
 * People who may sign in.
 *
 * Guarantees: e-mail addresses are compared in lower case; there is always an admin left who may sign in; a change of
 * password, role, address or standing ends the user's sessions, in the same transaction.
 * Failure: RefusalErrors `schema`, `already-exists`, `not-found`, `last-admin`, `overloaded`.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { Clock } from '../lib/clock.ts';
import type { Database, Sql } from '../store/ports/database.ts';
import type { IdentityStores, UserChange, UserRole, UserRow } from '../store/ports/identity.ts';
import { newId } from '../lib/ulid.ts';
import { passwordProblem } from './password-rules.ts';
import { certificateSession } from './certificate-session.ts';
import type { Passwords } from './passwords.ts';
import type { Sessions } from './sessions.ts';

/** A user as others see it. */
export interface User {
  readonly id: string;
  readonly email: string;
  readonly role: UserRole;
  readonly createdAt: number;
  readonly disabledAt: number | null;
}

/** A user to make. */
export interface UserCreation {
  readonly email: string;
  readonly password: string;
  readonly role: UserRole;
}

/** What of a user is to change; absent members stay. */
export interface UserPatch {
  readonly email?: string;
  readonly password?: string;
  readonly role?: UserRole;
  readonly disabled?: boolean;
}

/** Users as a service. */
export interface Users {
  create(creation: UserCreation): Promise<User>;
  get(id: string): Promise<User>;
  /** Users with an id below `before` (null: from the newest), newest first. */
  list(before: string | null, limit: number): Promise<User[]>;
  patch(id: string, patch: UserPatch): Promise<User>;
  remove(id: string): Promise<void>;
}

/** What {@link createUsers} needs. */
export interface UserOptions {
  readonly db: Database;
  readonly stores: Pick<IdentityStores, 'users' | 'certificates'>;
  readonly passwords: Pick<Passwords, 'hash'>;
  readonly sessions: Pick<Sessions, 'endOfUser' | 'announce'>;
  readonly clock: Clock;
}

/** One `@`, no white space or control characters, a domain; what RFC 5321 allows beyond that nobody signs in with. */
const EMAIL = /^[^\s@\p{Cc}\p{Cf}"(),:;<>[\\\]]{1,64}@[^\s@\p{Cc}\p{Cf}"(),:;<>[\\\]]{1,253}$/u;
const UNIQUE_VIOLATION = '23505';

/** An e-mail address in the form it is compared in; null when it is none. Pure. */
export function normaliseEmail(text: string): string | null {
  if (text.length > LIMITS.emailCharacters.value) return null;
  const email = text.trim().normalize('NFKC').toLowerCase();
  return email.length <= LIMITS.emailCharacters.value && EMAIL.test(email) ? email : null;
}

/** The e-mail address in its compared form; refuses `schema`. */
export function requireEmail(text: string): string {
  const email = normaliseEmail(text);
  if (email === null)
    throw refuse('schema', 'The e-mail address is malformed', [
      { pointer: '/email', detail: 'is not an e-mail address' },
    ]);
  return email;
}

/** Refuses a password that breaks the rules with `schema`. */
export function requirePassword(password: string, email: string): void {
  const problem = passwordProblem(password, email);
  if (problem !== null) throw refuse('schema', `The password ${problem}`, [{ pointer: '/password', detail: problem }]);
}

/** Without the hash. Pure. */
export function showUser({ id, email, role, createdAt, disabledAt }: UserRow): User {
  return { id, email, role, createdAt, disabledAt };
}

const isUniqueViolation = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && (error as { code?: unknown }).code === UNIQUE_VIOLATION;

/** Builds the service of users. */
export function createUsers(options: UserOptions): Users {
  const { db, passwords, sessions, clock } = options;
  const store = options.stores.users;

  const found = async (sql: Sql, id: string): Promise<UserRow> => {
    const user = await store.byId(sql, id);
    if (user === null) throw refuse('not-found', 'There is no such user');
    return user;
  };
  /** Locks the admins, so that of two who remove each other one stays. */
  const keepAnAdmin = async (sql: Sql, leaving: string): Promise<void> => {
    const admins = await store.lockAdmins(sql);
    if (admins.includes(leaving) && admins.length === 1) throw refuse('last-admin');
  };
  /** The session ids of the user's client certificates as the user is now; a change ends them by being one. */
  const certificateSessions = async (sql: Sql, id: string): Promise<string[]> => {
    const version = await options.stores.certificates.userVersion(sql, id);
    return version === null ? [] : [certificateSession({ kind: 'user', id, version })];
  };
  const changeOf = async (user: UserRow, patch: UserPatch): Promise<UserChange> => {
    const email = patch.email === undefined ? undefined : requireEmail(patch.email);
    if (patch.password !== undefined) requirePassword(patch.password, email ?? user.email);
    return {
      ...(email === undefined || email === user.email ? {} : { email }),
      ...(patch.password === undefined ? {} : { passwordHash: await passwords.hash(patch.password) }),
      ...(patch.role === undefined || patch.role === user.role ? {} : { role: patch.role }),
      ...(patch.disabled === undefined || patch.disabled === (user.disabledAt !== null)
        ? {}
        : { disabledAt: patch.disabled ? clock.now() : null }),
    };
  };

  return {
    async create({ email: text, password, role }) {
      const email = requireEmail(text);
      requirePassword(password, email);
      const user: UserRow = {
        id: newId(clock.now()),
        email,
        passwordHash: await passwords.hash(password),
        role,
        createdAt: clock.now(),
        disabledAt: null,
      };
      if (!(await store.insert(db, user)))
        throw refuse('already-exists', 'A user with this e-mail address exists already');
      return showUser(user);
    },
    get: async (id) => showUser(await found(db, id)),
    list: async (before, limit) => (await store.list(before, limit)).map(showUser),
    async patch(id, patch) {
      const before = await found(db, id);
      const change = await changeOf(before, patch);
      if (Object.keys(change).length === 0) return showUser(before);
      const leaves = (change.role !== undefined && change.role !== 'admin') || typeof change.disabledAt === 'number';
      try {
        const [after, ended] = await db.transaction(async (sql) => {
          if (leaves) await keepAnAdmin(sql, id);
          const ids = await certificateSessions(sql, id);
          const user = await store.update(sql, id, change);
          if (user === null) throw refuse('not-found', 'There is no such user');
          return [user, [...ids, ...(await sessions.endOfUser(sql, id, 'user-changed'))]] as const;
        });
        await sessions.announce(ended);
        return showUser(after);
      } catch (error) {
        throw isUniqueViolation(error)
          ? refuse('already-exists', 'A user with this e-mail address exists already')
          : error;
      }
    },
    async remove(id) {
      const ended = await db.transaction(async (sql) => {
        await keepAnAdmin(sql, id);
        const ids = await certificateSessions(sql, id);
        ids.push(...(await sessions.endOfUser(sql, id, 'user-removed')));
        if (!(await store.remove(sql, id))) throw refuse('not-found', 'There is no such user');
        return ids;
      });
      await sessions.announce(ended);
    },
  };
}
