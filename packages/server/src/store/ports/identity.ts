/**
 * Who may come in, as the store keeps it: users, sessions with their refresh tokens, tickets, API keys, signing keys.
 * Times are Unix ms. Secrets are never here in the clear: passwords are argon2id, tokens and keys SHA-256, private keys
 * sealed. A function that takes `sql` first takes part in the caller's transaction.
 */
import type { Sql } from './database.ts';
import type { Standing } from './registry.ts';

/** What a person may do. */
export type UserRole = 'admin' | 'operator' | 'viewer';

/** A person. `email` is lower case and unique. */
export interface UserRow {
  readonly id: string;
  readonly email: string;
  readonly passwordHash: string;
  readonly role: UserRole;
  readonly createdAt: number;
  readonly disabledAt: number | null;
}

/** What a change of a user sets; absent members stay. */
export interface UserChange {
  readonly email?: string;
  readonly passwordHash?: string;
  readonly role?: UserRole;
  readonly disabledAt?: number | null;
}

/** Users, and the facts about this installation that go with them. */
export interface UserStore {
  /** False when the e-mail address is taken. */
  insert(sql: Sql, user: UserRow): Promise<boolean>;
  byId(sql: Sql, id: string): Promise<UserRow | null>;
  byEmail(email: string): Promise<UserRow | null>;
  /** Users with an id below `before` (null: from the newest), newest first. */
  list(before: string | null, limit: number): Promise<UserRow[]>;
  /** Null when there is no such user. Throws PostgreSQL 23505 when the new e-mail address is taken. */
  update(sql: Sql, id: string, change: UserChange): Promise<UserRow | null>;
  remove(sql: Sql, id: string): Promise<boolean>;
  /** Ids of the admins that may sign in; their rows are locked until the transaction ends. */
  lockAdmins(sql: Sql): Promise<string[]>;
  /** Claims a fact about this installation; false when it is there already. Waits for another one's transaction. */
  claim(sql: Sql, name: string, value: string): Promise<boolean>;
  claimed(name: string): Promise<boolean>;
}

/** A session: one sign-in, the family of its refresh tokens, the `sid` of its access tokens. */
export interface SessionRow {
  readonly id: string;
  /** User id, or `device:<id>`. */
  readonly subject: string;
  readonly userId: string | null;
  readonly deviceId: string | null;
  readonly scope: string;
  readonly fingerprintHash: Buffer | null;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly revokedAt: number | null;
  readonly revokedReason: string | null;
}

/** A refresh token by its SHA-256. `successor` is the hash of the token it was exchanged for. */
export interface RefreshTokenRow {
  readonly hash: Buffer;
  readonly sessionId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly usedAt: number | null;
  readonly successor: Buffer | null;
}

/** Sessions and refresh tokens. */
export interface SessionStore {
  insert(sql: Sql, session: Omit<SessionRow, 'revokedAt' | 'revokedReason'>): Promise<void>;
  insertRefreshToken(sql: Sql, token: Omit<RefreshTokenRow, 'usedAt' | 'successor'>): Promise<void>;
  /** The session that a refresh token belongs to, locked until the transaction ends. */
  lockByRefreshToken(sql: Sql, hash: Buffer): Promise<SessionRow | null>;
  refreshToken(sql: Sql, hash: Buffer): Promise<RefreshTokenRow | null>;
  markUsed(sql: Sql, hash: Buffer, usedAt: number, successor: Buffer): Promise<void>;
  /** Revokes what still lives of these sessions; answers their ids. */
  revoke(sql: Sql, ids: readonly string[], at: number, reason: string): Promise<string[]>;
  revokeOfUser(sql: Sql, userId: string, at: number, reason: string): Promise<string[]>;
  revokeOfDevice(sql: Sql, deviceId: string, at: number, reason: string): Promise<string[]>;
  /** Those of `ids` that are revoked, expired at `now`, or unknown. */
  dead(ids: readonly string[], now: number): Promise<string[]>;
  /** Deletes sessions that ended before `before`, at most `limit`; their refresh tokens go with them. */
  deleteEnded(before: number, limit: number): Promise<number>;
  deleteExpiredRefreshTokens(before: number, limit: number): Promise<number>;
}

/** A WebSocket ticket by its SHA-256. */
export interface TicketRow {
  readonly hash: Buffer;
  readonly sessionId: string;
  readonly userId: string;
  readonly role: UserRole;
  /** End of the access token that the ticket was asked with. */
  readonly tokenExpiresAt: number;
  readonly expiresAt: number;
}

/** Tickets. */
export interface TicketStore {
  insert(ticket: TicketRow): Promise<void>;
  /** Reads and deletes in one step: of several callers one gets it. */
  take(hash: Buffer): Promise<TicketRow | null>;
  deleteExpired(before: number, limit: number): Promise<number>;
}

/** What an API key may do. */
export type ApiKeyScope = 'ingest' | 'register' | 'read';

/** An API key by its SHA-256. */
export interface ApiKeyRow {
  readonly id: string;
  readonly name: string;
  readonly hash: Buffer;
  readonly scopes: readonly ApiKeyScope[];
  readonly createdAt: number;
  readonly revokedAt: number | null;
}

/** Two counts that only grow, since keys are never deleted nor brought back: equal counts, equal keys. */
export interface ApiKeyCounts {
  readonly all: number;
  readonly revoked: number;
}

/** API keys. */
export interface ApiKeyStore {
  /** False when the hash is known already (even revoked). */
  insert(sql: Sql, key: ApiKeyRow): Promise<boolean>;
  counts(): Promise<ApiKeyCounts>;
  /** Keys that are not revoked, at most `limit`, newest first. */
  active(limit: number): Promise<ApiKeyRow[]>;
  /** Keys with an id below `before` (null: from the newest), newest first, revoked ones too. */
  list(before: string | null, limit: number): Promise<ApiKeyRow[]>;
  byHash(hash: Buffer): Promise<ApiKeyRow | null>;
  /** False when there is no such living key. */
  revoke(id: string, at: number): Promise<boolean>;
}

/** What a signing key is for. */
export type KeyPurpose = 'token' | 'alert' | 'command';

/** A signing key; `sealed` is its private half under a key from CLUSTER_SECRET. */
export interface SigningKeyRow {
  readonly kid: string;
  readonly purpose: KeyPurpose;
  readonly algorithm: string;
  readonly publicJwk: Readonly<Record<string, unknown>>;
  readonly sealed: Buffer;
  readonly createdAt: number;
  readonly retiredAt: number | null;
}

/** Signing keys. At most one for each purpose and algorithm is current. */
export interface SigningKeyStore {
  all(): Promise<SigningKeyRow[]>;
  /** False when the purpose has a current key of that algorithm already. */
  insertCurrent(sql: Sql, key: SigningKeyRow): Promise<boolean>;
  /** Retires the purpose's current keys. */
  retire(sql: Sql, purpose: KeyPurpose, at: number): Promise<void>;
  /** One at a time: held until the transaction ends. */
  lock(sql: Sql): Promise<void>;
}

/** What a client certificate may name: ids and e-mail addresses (in their compared form). */
export interface CertificateNames {
  readonly userIds: readonly string[];
  readonly emails: readonly string[];
  readonly deviceIds: readonly string[];
}

/**
 * Who is named. `version` changes with everything that ends a session: of a user with address, password, role and standing,
 * of a device with its owner.
 */
export type CertificateHolder =
  | {
      readonly kind: 'user';
      readonly id: string;
      readonly role: UserRole;
      readonly disabledAt: number | null;
      readonly version: string;
    }
  | {
      readonly kind: 'device';
      readonly id: string;
      readonly ownerId: string | null;
      readonly standing: Standing;
      readonly version: string;
    };

/** A standing that is claimed of somebody, under a name of the caller's. */
export interface HolderClaim {
  readonly name: string;
  readonly kind: CertificateHolder['kind'];
  readonly id: string;
  readonly version: string;
}

/** Holders of client certificates. Nothing of a certificate is stored. */
export interface CertificateStore {
  /** Everybody who is named, once. */
  named(names: CertificateNames): Promise<CertificateHolder[]>;
  /** The version of a user now; null when there is none. */
  userVersion(sql: Sql, id: string): Promise<string | null>;
  /** Names of the claims that do not hold: gone, disabled, revoked, inactive, quarantined, or of another version. */
  broken(claims: readonly HolderClaim[]): Promise<string[]>;
}

/** Everything that identity keeps in the store. */
export interface IdentityStores {
  readonly users: UserStore;
  readonly sessions: SessionStore;
  readonly tickets: TicketStore;
  readonly apiKeys: ApiKeyStore;
  readonly signingKeys: SigningKeyStore;
  readonly certificates: CertificateStore;
}
