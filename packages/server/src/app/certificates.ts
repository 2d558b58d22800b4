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
  return {
    tls: first.tls,
    keepFresh: (servers, caChanged) =>
      watchCertificates({
        files,
        first,
        clock,
        log,
        replace({ tls }, changed) {
          for (const server of servers) replaceCertificates(server, tls);
          if (changed.clientCa) caChanged();
        },
        expiry: (validTo) => metrics.certificateExpiry.set({ listener: 'http' }, validTo / 1000),
      }),
  };
}
