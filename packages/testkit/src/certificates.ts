/**
 * Certificates for tests, made by openssl: authorities of their own, and what they issue. Keys are P-256. Everything lies in
 * a temporary folder that is gone with this process at the latest.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderRemoved, guardedFolder } from './guard.ts';

/** A certificate with its key, as files and as PEM texts. */
export interface TestCertificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

/** What a certificate says. */
export interface CertificateContent {
  /** As openssl takes it; default `/CN=localhost`. */
  readonly subject?: string;
  /** Subject alternative names as openssl takes them, e.g. `email:a@b.example`. */
  readonly names?: readonly string[];
  /** Extended key usages; default: none is said, so it is good for all. */
  readonly usage?: 'clientAuth' | 'serverAuth';
  /** From now; negative: expired. Default 30. */
  readonly days?: number;
}

/** An authority. */
export interface TestAuthority {
  readonly caFile: string;
  readonly ca: string;
  issue(content?: CertificateContent): TestCertificate;
  /** Removes its folder. */
  remove(): void;
}

const NEW_KEY: readonly string[] = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Names of a server on this machine. */
export const LOCAL_NAMES: readonly string[] = ['DNS:localhost', 'IP:127.0.0.1'];

function openssl(args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Makes an authority. */
export function createAuthority(name: string = 'Tocsin tests'): TestAuthority {
  const folder = guardedFolder('tocsin-ca-');
  const file = (leaf: string): string => join(folder, leaf);
  const caFile = file('ca.pem');
  const subject = ['-subj', `/CN=${name}`, '-days', '30'];
  openssl(['req', '-x509', ...NEW_KEY, '-keyout', file('ca.key'), '-out', caFile, ...subject]);
  let issued = 0;
  return {
    caFile,
    ca: readFileSync(caFile, 'utf8'),
    issue({ subject: of = '/CN=localhost', names = [], usage, days = 30 } = {}) {
      issued += 1;
      const [certFile, keyFile, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((kind) =>
        file(`${issued}.${kind}`),
      ) as [string, string, string, string];
      const lines = [
        'basicConstraints=CA:false',
        ...(names.length === 0 ? [] : [`subjectAltName=${names.join(',')}`]),
        ...(usage === undefined ? [] : [`extendedKeyUsage=${usage}`]),
      ];
      writeFileSync(extensions, `${lines.join('\n')}\n`);
      openssl(['req', '-new', ...NEW_KEY, '-keyout', keyFile, '-out', request, '-subj', of]);
      const by = ['-CA', caFile, '-CAkey', file('ca.key'), '-set_serial', String(issued), '-days', String(days)];
      openssl(['x509', '-req', '-in', request, ...by, '-extfile', extensions, '-out', certFile]);
      return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
    },
    remove() {
      rmSync(folder, { recursive: true, force: true });
      folderRemoved(folder);
    },
  };
}
