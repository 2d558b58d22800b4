/**
 * The session ids of who came with a client certificate. No store has a row for them: such an id says itself whose it is
 * and what was true then (a version of the user or device), and the session lives while that is still true. Pure.
 */
import type { CertificateHolder, HolderClaim } from '../store/ports/identity.ts';

const FORM = /^certificate\.(user|device)\.([0-9a-f]{16})\.([A-Za-z0-9._-]{1,64})$/;
const PREFIX = 'certificate.';

/** Longest session id of any kind, in characters: that of a device with the longest identifier. */
export const SESSION_ID_CHARACTERS = 128;

/** The session id of a holder as it is now. */
export function certificateSession({ kind, id, version }: Pick<CertificateHolder, 'kind' | 'id' | 'version'>): string {
  return `${PREFIX}${kind}.${version}.${id}`;
}

/** True for an id of such a session, whole or not. */
export function isCertificateSession(id: string): boolean {
  return id.startsWith(PREFIX);
}

/** What the id claims; null when it is malformed. */
export function readCertificateSession(name: string): HolderClaim | null {
  const [, kind, version = '', id = ''] = FORM.exec(name) ?? [];
  return kind === 'user' || kind === 'device' ? { name, kind, version, id } : null;
}
