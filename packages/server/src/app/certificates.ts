/** The listener's certificates: read at the start, put into use, and kept fresh while it runs. */
import type { Server } from 'node:http';
import { CodedError } from '../lib/coded-error.ts';
import { replaceCertificates, type TlsOptions } from '../transports/http/server-socket.ts';
import { type CertificateWatch, watchCertificates } from './certificate-watch.ts';
import type { Ground } from './ground.ts';
import type { Settings } from './settings.ts';
import { readCertificates, tlsFiles } from './tls.ts';

/** Certificates that a listener starts with. */
export interface ListenerCertificates {
  readonly tls: TlsOptions;
  /** Gives them to another listener too, now and whenever they are replaced. */
  share(use: (tls: TlsOptions) => void): void;
  /** Watches their files for listening servers. `caChanged` hears of another client CA, once it is in use. */
  keepFresh(servers: readonly Server[], caChanged: () => void): CertificateWatch;
}

/** Reads them; null without TLS. Rejects with `certificate-unusable`, which a change of the files since the settings were checked can cause. */
export async function openCertificates(
  settings: Settings,
  { clock, log, metrics }: Pick<Ground, 'clock' | 'log' | 'metrics'>,
): Promise<ListenerCertificates | null> {
  const files = tlsFiles(settings);
  if (files === null) return null;
  const first = await readCertificates(files);
  if ('fault' in first) throw new CodedError('certificate-unusable', first.fault);
  const sharers: ((tls: TlsOptions) => void)[] = [];
  let current = first.tls;
  return {
    tls: first.tls,
    share(use) {
      sharers.push(use);
      use(current);
    },
    keepFresh: (servers, caChanged) =>
      watchCertificates({
        files,
        first,
        clock,
        log,
        replace({ tls }, changed) {
          for (const server of servers) replaceCertificates(server, tls);
          current = tls;
          for (const use of sharers) use(tls);
          if (changed.clientCa) caChanged();
        },
        expiry: (validTo) => metrics.certificateExpiry.set({ listener: 'http' }, validTo / 1000),
      }),
  };
}
