/**
 * The certificate that a client showed in its TLS handshake, as names, and whether it may be believed.
 *
 * Guarantees: believed is only what this server itself verified against `TLS_CLIENT_CA` on this connection, that is valid
 * now, and whose CA is still the one in use: a connection that began before the CA was replaced shows nothing any more.
 * The listener allows no renegotiation, so the certificate cannot change after it was verified.
 * A certificate in a header of a proxy is never looked at. Names are bounded, and read so that no name can pretend to be
 * two (Node writes a doubtful one as a JSON string).
 * A resumed session without a certificate counts as `authorized` in TLS 1.3 with Node 20 (it takes it for a pre-shared key): that is
 * nobody.
 */
import type { X509Certificate } from 'node:crypto';
import type { Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** Names of one kind that a certificate may have; one with more is refused. */
const NAMES_MOST = 16;
/** Characters of a name; longer ones name nobody here. */
const NAME_CHARACTERS = 320;

/** Why a certificate is not believed. */
export type CertificateDoubt = 'unverified' | 'expired' | 'earlier-ca' | 'too-many-names';

/** A client's certificate. */
export interface ClientCertificate {
  /** Null: it may be believed. */
  readonly doubt: CertificateDoubt | null;
  /** Subject alternative names of the kind rfc822Name. */
  readonly emails: readonly string[];
  /** Those of the kind uniformResourceIdentifier. */
  readonly uris: readonly string[];
  /** Common names of the subject. */
  readonly commonNames: readonly string[];
  /** Unix ms. */
  readonly validTo: number;
  /** SHA-256, hex with colons. */
  readonly fingerprint: string;
}

/** Certificates of the clients of one server. */
export interface ClientCertificates {
  /** What the peer of this socket showed; null: nothing. `now`: Unix ms. */
  of(socket: Duplex, now: number): ClientCertificate | null;
  /** Another CA counts from now on. Call it when the server has it. */
  caChanged(): void;
}

/** A name or (quoted) a doubtful one as a JSON string, and what follows it. */
const NAME = /^([^:,"]{1,32}):(?:"((?:[^"\\]|\\.)*)"|([^,"]*))(?:, |$)/;

/**
 * Names in `subjectAltName` as Node writes it (its documentation: commas and quotes occur only within JSON strings), by
 * kind; null where it is written otherwise. Pure.
 */
export function readAlternativeNames(text: string): { emails: string[]; uris: string[] } | null {
  const names = { emails: [] as string[], uris: [] as string[] };
  for (let rest = text; rest !== ''; ) {
    const match = NAME.exec(rest);
    if (match === null) return null;
    const [whole, kind, quoted, plain = ''] = match;
    const value = quoted === undefined ? plain : unquoted(quoted);
    if (value === null) return null;
    if (kind === 'email') names.emails.push(value);
    if (kind === 'URI') names.uris.push(value);
    rest = rest.slice(whole.length);
  }
  return names;
}

function unquoted(text: string): string | null {
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    return null;
  }
}

function commonNamesOf(certificate: X509Certificate): string[] {
  // One name is a string, several are an array; its type in @types/node knows the first only.
  const { CN } = certificate.toLegacyObject().subject as { CN?: string | string[] };
  return CN === undefined ? [] : [CN].flat();
}

/** Reads a certificate; `verified`: against the CA in use. Pure. */
export function readClientCertificate(
  certificate: X509Certificate,
  verified: CertificateDoubt | null,
  now: number,
): ClientCertificate {
  const { subjectAltName, fingerprint256: fingerprint } = certificate;
  const alternative = subjectAltName === undefined ? { emails: [], uris: [] } : readAlternativeNames(subjectAltName);
  const commonNames = commonNamesOf(certificate);
  const lists = alternative === null ? [] : [alternative.emails, alternative.uris, commonNames];
  const validTo = Date.parse(certificate.validTo);
  const fits = lists.length > 0 && lists.every((list) => list.length <= NAMES_MOST);
  const timely = now >= Date.parse(certificate.validFrom) && now < validTo;
  const doubt = verified ?? (timely ? null : 'expired') ?? (fits ? null : 'too-many-names');
  const [emails = [], uris = [], subjects = []] = fits
    ? lists.map((list) => list.filter((name) => name.length <= NAME_CHARACTERS))
    : [];
  return { doubt, emails, uris, commonNames: subjects, validTo, fingerprint };
}

/** Watches the connections of servers (http: there are no certificates). Call before they listen. */
export function watchClientCertificates(...servers: readonly Server[]): ClientCertificates {
  /** Which CA a connection was begun under. Its TLS half is made, with the CA of that moment, when the bare one arrives. */
  const eras = new WeakMap<Duplex, number>();
  let era = 0;
  for (const server of servers) server.on('connection', (socket: Duplex) => void eras.set(socket, era));
  return {
    of(socket, now) {
      if (!(socket instanceof TLSSocket)) return null;
      const certificate = socket.getPeerX509Certificate();
      if (certificate === undefined) return null;
      // `_parent` is the bare socket (Node has no public name for it); without it the connection counts as an old one.
      const bare = (socket as { _parent?: Duplex })._parent;
      const current = bare !== undefined && eras.get(bare) === era;
      // Node never takes `authorized` back; an error beside it would be of a later handshake.
      const verified = socket.authorized && (socket.authorizationError ?? null) === null;
      const unverified = verified ? null : 'unverified';
      return readClientCertificate(certificate, unverified ?? (current ? null : 'earlier-ca'), now);
    },
    caChanged() {
      era += 1;
    },
  };
}
