/**
 * Holders of client certificates in PostgreSQL (tables `users` and `devices`). A host that nobody registered is none: else
 * whoever may publish could take the name of a user, and one certificate would name two.
 */
import type { Database } from '../ports/database.ts';
import type { CertificateHolder, CertificateStore } from '../ports/identity.ts';

/** A digest over what ends a session of the user; the password is in it as the hash that is stored. */
const USER_VERSION = `left(encode(sha256(convert_to(
  concat_ws(E'\\n', u.email, u.password_hash, u.role, coalesce(u.disabled_at, 0)), 'UTF8')), 'hex'), 16)`;
const DEVICE_VERSION = `left(encode(sha256(convert_to(coalesce(d.owner_id, ''), 'UTF8')), 'hex'), 16)`;

interface HolderRow {
  readonly kind: 'user' | 'device';
  readonly id: string;
  readonly version: string;
  readonly role: string | null;
  readonly disabledAt: number | null;
  readonly ownerId: string | null;
  readonly standing: string | null;
}

/** Builds the {@link CertificateStore}. */
export function createCertificateStore(db: Database): CertificateStore {
  return {
    async named({ userIds, emails, deviceIds }) {
      const rows = await db.query<HolderRow>(
        `SELECT 'user' AS kind, u.id, ${USER_VERSION} AS version, u.role, u.disabled_at AS "disabledAt",
           NULL AS "ownerId", NULL AS standing
         FROM users u WHERE u.id = ANY ($1::text[]) OR u.email = ANY ($2::text[])
         UNION ALL
         SELECT 'device', d.id, ${DEVICE_VERSION}, NULL, NULL, d.owner_id, d.standing
         FROM devices d WHERE d.id = ANY ($3::text[]) AND d.public_key IS NOT NULL`,
        [userIds, emails, deviceIds],
      );
      return rows as readonly object[] as CertificateHolder[];
    },
    async userVersion(sql, id) {
      const rows = await sql.query<{ version: string }>(
        `SELECT ${USER_VERSION} AS version FROM users u WHERE u.id = $1`,
        [id],
      );
      return rows[0]?.version ?? null;
    },
    async broken(claims) {
      const rows = await db.query<{ name: string }>(
        `SELECT c.name FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS c (name, kind, id, version)
         WHERE NOT EXISTS (SELECT 1 FROM users u
             WHERE c.kind = 'user' AND u.id = c.id AND u.disabled_at IS NULL AND ${USER_VERSION} = c.version)
           AND NOT EXISTS (SELECT 1 FROM devices d
             WHERE c.kind = 'device' AND d.id = c.id AND d.public_key IS NOT NULL AND d.standing IN ('active', 'blocked') AND ${DEVICE_VERSION} = c.version)`,
        [
          claims.map(({ name }) => name),
          claims.map(({ kind }) => kind),
          claims.map(({ id }) => id),
          claims.map(({ version }) => version),
        ],
        'certificates-broken',
      );
      return rows.map(({ name }) => name);
    },
  };
}
