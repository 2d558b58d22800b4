/**
 * Certificate and key of the listener, and the CA of client certificates: read from the files of the settings, and judged
 * before they are used.
 *
 * Guarantees: a text that is half written, a key of another certificate or a CA file without a certificate never becomes a
 * listener's. Nothing of a file's content is in a fault.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { TlsOptions } from '../transports/http/server-socket.ts';
import type { Settings } from './settings.ts';

/** Most bytes of a PEM file; the bundle of all public CAs has a quarter of it. */
const MOST_BYTES = 1_048_576;

/** Where the files are. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | null;
}

/** A set of files that can be used. */
export interface Certificates {
  readonly tls: TlsOptions;
  /** Of the listener's certificate, Unix ms. */
  readonly validFrom: number;
  readonly validTo: number;
  /** SHA-256 of the listener's certificate, as OpenSSL writes it. */
  readonly fingerprint: string;
  /** Equal for equal contents of all files. */
  readonly digest: string;
  /** Of the client CA's file alone; null without one. */
  readonly clientCaDigest: string | null;
}

/** Why a set of files cannot be used; `digest` as in {@link Certificates}, '' where a file could not be read. */
export interface CertificateFault {
  readonly fault: string;
  readonly digest: string;
}

/** The files that the settings name; null without TLS. */
export function tlsFiles({ tlsCertFile, tlsKeyFile, tlsClientCaFile }: Settings): TlsFiles | null {
  if (tlsCertFile === null || tlsKeyFile === null) return null;
  return { cert: tlsCertFile, key: tlsKeyFile, clientCa: tlsClientCaFile };
}

/** Reads and judges the files. Never rejects. Links are followed anew each time, so a swapped one is a new file. */
export async function readCertificates(files: TlsFiles): Promise<Certificates | CertificateFault> {
  let texts: readonly [Buffer, Buffer, Buffer | null];
  try {
    const { cert, key, clientCa } = files;
    texts = await Promise.all([readPem(cert), readPem(key), clientCa === null ? null : readPem(clientCa)]);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { fault: `a file cannot be read (${code ?? 'too large, or no file'})`, digest: '' };
  }
  return judgeCertificates(...texts);
}

/** A regular file of at most {@link MOST_BYTES}; anything else rejects. */
async function readPem(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > MOST_BYTES) throw new RangeError('no PEM file');
    return await file.readFile();
  } finally {
    await file.close();
  }
}

const digestOf = (...texts: readonly Buffer[]): string => {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text.length}:`).update(text);
  return hash.digest('base64url');
};

/** Judges the texts of certificate (chain), key and client CA. */
export function judgeCertificates(cert: Buffer, key: Buffer, clientCa: Buffer | null): Certificates | CertificateFault {
  const digest = digestOf(cert, key, ...(clientCa === null ? [] : [clientCa]));
  const [leaf] = certificatesIn(cert) ?? [];
  if (leaf === undefined) return { fault: 'TLS_CERT does not hold a whole certificate', digest };
  const privateKey = parsed(() => createPrivateKey(key));
  if (privateKey === null) return { fault: 'TLS_KEY does not hold a private key without a passphrase', digest };
  if (!leaf.checkPrivateKey(privateKey)) return { fault: 'TLS_KEY is the key of another certificate', digest };
  if (clientCa !== null && certificatesIn(clientCa) === null)
    return { fault: 'TLS_CLIENT_CA does not hold whole certificates', digest };
  const tls = { cert, key, ...(clientCa === null ? {} : { clientCa }) };
  // What OpenSSL would refuse beyond that (weak keys, a chain that it cannot load) it refuses here, not in the listener.
  const context = parsed(() => createSecureContext({ cert, key, ...(clientCa === null ? {} : { ca: clientCa }) }));
  if (context === null) return { fault: 'OpenSSL does not take the certificate or its key', digest };
  return {
    tls,
    validFrom: Date.parse(leaf.validFrom),
    validTo: Date.parse(leaf.validTo),
    fingerprint: leaf.fingerprint256,
    digest,
    clientCaDigest: clientCa === null ? null : digestOf(clientCa),
  };
}

/** All certificates of a PEM text, in order; null where there is none, or one that is broken or not whole. */
function certificatesIn(pem: Buffer): X509Certificate[] | null {
  const text = pem.toString('latin1');
  const begins = text.split('-----BEGIN ').length - 1;
  const blocks = text.match(
    /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g,
  );
  // Something begins that does not end: the file is being written.
  if (blocks === null || blocks.length !== begins) return null;
  return parsed(() => blocks.map((block) => new X509Certificate(block)));
}

function parsed<Value>(parse: () => Value): Value | null {
  try {
    return parse();
  } catch {
    return null;
  }
}
