/**
 * From the names in a client certificate to the user or device that it stands for.
 *
 * The subject alternative names decide: an rfc822Name is the e-mail address of a user, `urn:tocsin:user:<id or e-mail>` a
 * user, `urn:tocsin:device:<id>` a device. Only where there is none of these does the subject's common name count: the
 * e-mail address of a user or the id of a device. Exactly one of them must be found: none, or two, are nobody.
 * Guarantees: one statement for a certificate; nothing is stored. Who has verified the certificate is the caller.
 * Failure: `credentials-wrong` (401) for nobody, `role-insufficient` (403) for a disabled user, and the 403 of the device's
 * standing; `store-unavailable`.
 */
import type { ErrorCode } from '@tocsin/protocol/errors';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { CertificateHolder, CertificateNames, CertificateStore } from '../store/ports/identity.ts';
import type { Standing } from '../store/ports/registry.ts';
import { certificateSession } from './certificate-session.ts';
import type { Principal } from './principal.ts';
import { PERSON_SCOPE } from './sign-in.ts';
import { normaliseEmail } from './users.ts';

/** A certificate that was verified. */
export interface VerifiedCertificate {
  readonly emails: readonly string[];
  readonly uris: readonly string[];
  readonly commonNames: readonly string[];
  /** Unix ms. */
  readonly validTo: number;
  /** SHA-256, hex with colons. */
  readonly fingerprint: string;
}

/** Certificates as credentials. */
export interface Certificates {
  /** Whose it is. */
  verify(certificate: VerifiedCertificate): Promise<Principal>;
}

/** Case counts after the name of the namespace only (RFC 8141 section 3.1). */
const URN = /^urn:tocsin:(user|device):(.+)$/i;

/** What a device's standing means for it here; a blocked one must hear of its release. */
const STANDINGS: Readonly<Record<Standing, ErrorCode | null>> = {
  active: null,
  blocked: null,
  inactive: 'device-inactive',
  quarantined: 'device-quarantined',
  revoked: 'device-revoked',
};

/** The names that count, in the form that they are looked up in; what is no name of ours is left out. Pure. */
export function namesOf({
  emails,
  uris,
  commonNames,
}: Omit<VerifiedCertificate, 'validTo' | 'fingerprint'>): CertificateNames {
  const names = { userIds: [] as string[], emails: [] as string[], deviceIds: [] as string[] };
  const addEmail = (text: string): void => {
    const email = normaliseEmail(text);
    if (email !== null) names.emails.push(email);
  };
  const urns = uris.flatMap((uri) => {
    const [, kind, name] = URN.exec(uri) ?? [];
    return kind === undefined || name === undefined ? [] : [{ kind: kind.toLowerCase(), name }];
  });
  for (const email of emails) addEmail(email);
  for (const { kind, name } of urns) {
    if (kind === 'user') addEmail(name);
    if (isIdentifier(name)) (kind === 'user' ? names.userIds : names.deviceIds).push(name);
  }
  // A certificate that says what it is for by alternative names is not read in another way (as RFC 6125 section 6.4.4).
  if (emails.length > 0 || urns.length > 0) return names;
  for (const name of commonNames) {
    addEmail(name);
    if (isIdentifier(name)) names.deviceIds.push(name);
  }
  return names;
}

function principalOf(holder: CertificateHolder, { validTo, fingerprint }: VerifiedCertificate): Principal {
  const common = {
    sessionId: certificateSession(holder),
    tokenId: `certificate.${fingerprint.replaceAll(':', '').slice(0, 32).toLowerCase()}`,
    expiresAt: validTo,
  };
  if (holder.kind === 'user') {
    if (holder.disabledAt !== null) throw refuse('role-insufficient', 'The user of the certificate is disabled');
    return { kind: 'user', subject: holder.id, deviceId: null, role: holder.role, scope: PERSON_SCOPE, ...common };
  }
  const refusal = STANDINGS[holder.standing];
  if (refusal !== null) throw refuse(refusal);
  const subject = holder.ownerId ?? `device:${holder.id}`;
  return { kind: 'device', subject, deviceId: holder.id, role: null, scope: '', ...common };
}

/** Builds the service. */
export function createCertificates(store: Pick<CertificateStore, 'named'>): Certificates {
  return {
    async verify(certificate) {
      const names = namesOf(certificate);
      const named = Object.values(names).some((list: readonly string[]) => list.length > 0);
      const [holder, another] = named ? await store.named(names) : [];
      if (holder === undefined) throw refuse('credentials-wrong', 'The client certificate names nobody here');
      if (another !== undefined) throw refuse('credentials-wrong', 'The client certificate names more than one');
      return principalOf(holder, certificate);
    },
  };
}
