/**
 * Certificates of a running listener: looked at every few seconds and on demand, replaced when their files have changed.
 *
 * Guarantees: only a set that can be used takes the place of the one in use; a bad or half-written one changes nothing, is
 * told in one line (again after ten minutes while it stays) and looked at again. Contents are compared, not times, so a
 * file that is renamed over, a link that is swapped and a file that is written in place are the same thing.
 * A certificate that is not valid now does not replace one that is. What ends within 14 days is told once a day.
 */
import type { Clock } from '../lib/clock.ts';
import type { LogFields } from '../ops/logging.ts';
import { type CertificateFault, type Certificates, readCertificates, type TlsFiles } from './tls.ts';

/** Time between two looks, ms. */
const POLL_MS = 5000;
/** A fault that stays is told again after this time, ms. */
const FAULT_MS = 600_000;
/** Certificates that end within this time are told of, ms. */
export const EXPIRY_NOTICE_MS: number = 14 * 86_400_000;
const DAY_MS = 86_400_000;

/** What came of a look. */
export type CertificateLook = 'same' | 'replaced' | 'kept';

/** The watch over the files. */
export interface CertificateWatch {
  /** Looks now; answers what came of it. A look that is under way is waited for, then there is one more. */
  check(): Promise<CertificateLook>;
  stop(): void;
}

/** What {@link watchCertificates} needs. */
export interface CertificateWatchOptions {
  readonly files: TlsFiles;
  /** Those in use. */
  readonly first: Certificates;
  readonly clock: Clock;
  readonly log: {
    info(fields: LogFields, message: string): void;
    warn(fields: LogFields, message: string): void;
    error(fields: LogFields, message: string): void;
  };
  /** Puts others into use; may throw, then nothing has changed. `clientCa`: whether that CA is another one. */
  readonly replace: (certificates: Certificates, changed: { readonly clientCa: boolean }) => void;
  /** Hears when the certificate in use ends, Unix ms. */
  readonly expiry: (validTo: number) => void;
  /** Time between two looks, ms; 5 s when absent. */
  readonly pollMs?: number;
}

/** Why `next` should not take the place of `current` at `now` (Unix ms); null when it may. Pure. */
export function replacementFault(current: Certificates, next: Certificates, now: number): string | null {
  const valid = ({ validFrom, validTo }: Certificates): boolean => now >= validFrom && now < validTo;
  if (valid(next) || !valid(current)) return null;
  return now >= next.validTo ? 'the new certificate has expired' : 'the new certificate is not valid yet';
}

/** What was told last on each subject, so that what stays as it is, is told again only after a while. */
function createNews(clock: Clock): {
  isNew(subject: string, text: string, againMs: number): boolean;
  forget(subject: string): void;
} {
  const told = new Map<string, { readonly text: string; readonly at: number }>();
  return {
    isNew(subject, text, againMs) {
      const last = told.get(subject);
      const now = clock.monotonic();
      if (last !== undefined && last.text === text && now - last.at < againMs) return false;
      told.set(subject, { text, at: now });
      return true;
    },
    forget: (subject) => void told.delete(subject),
  };
}

/** Watches the files from now on. */
export function watchCertificates(options: CertificateWatchOptions): CertificateWatch {
  const { files, clock, log } = options;
  const news = createNews(clock);
  let current = options.first;
  let looking: Promise<CertificateLook> = Promise.resolve('same');

  function tellExpiry(): void {
    options.expiry(current.validTo);
    const left = current.validTo - clock.now();
    if (left >= EXPIRY_NOTICE_MS) return;
    const { fingerprint } = current;
    if (!news.isNew('expiry', `${left > 0} ${fingerprint}`, DAY_MS)) return;
    const message =
      left > 0 ? 'the certificate of the listener ends soon' : 'the certificate of the listener has expired';
    log.warn({ validTo: new Date(current.validTo).toISOString(), fingerprint }, message);
  }

  function keep({ fault, digest }: CertificateFault): CertificateLook {
    tellExpiry();
    if (news.isNew('fault', digest, FAULT_MS)) {
      const { fingerprint } = current;
      log.warn({ fault, fingerprint }, 'the certificate files cannot be used; the listener keeps what it has');
    }
    return 'kept';
  }

  async function look(): Promise<CertificateLook> {
    const next = await readCertificates(files);
    if (next.digest === current.digest) {
      news.forget('fault');
      tellExpiry();
      return 'same';
    }
    const fault = 'fault' in next ? next.fault : replacementFault(current, next, clock.now());
    if ('fault' in next || fault !== null) return keep({ fault: fault ?? '', digest: next.digest });
    try {
      options.replace(next, { clientCa: next.clientCaDigest !== current.clientCaDigest });
    } catch (error) {
      log.error({ err: error }, 'certificates that were judged good were refused');
      return keep({ fault: 'the listener refused them', digest: next.digest });
    }
    current = next;
    news.forget('fault');
    const { fingerprint, validTo } = next;
    log.info({ fingerprint, validTo: new Date(validTo).toISOString() }, 'the certificate of the listener was replaced');
    tellExpiry();
    return 'replaced';
  }

  tellExpiry();
  let waiting = 0;
  const check = (): Promise<CertificateLook> => {
    waiting += 1;
    looking = looking.then(look).finally(() => {
      waiting -= 1;
    });
    return looking;
  };
  const timer = setInterval(() => {
    if (waiting === 0) void check();
  }, options.pollMs ?? POLL_MS);
  return { check, stop: () => clearInterval(timer) };
}
