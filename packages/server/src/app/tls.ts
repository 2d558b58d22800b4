/** Certificate and key of the listener, as the settings name them. */
import { readFile } from 'node:fs/promises';
import type { TlsOptions } from '../transports/http/server-socket.ts';
import type { Settings } from './settings.ts';

/** Reads the files; null without TLS. The settings have checked that they are there. */
export async function readTls(settings: Settings): Promise<TlsOptions | null> {
  const { tlsCertFile, tlsKeyFile, tlsClientCaFile } = settings;
  if (tlsCertFile === null || tlsKeyFile === null) return null;
  const [cert, key] = await Promise.all([readFile(tlsCertFile), readFile(tlsKeyFile)]);
  return { cert, key, ...(tlsClientCaFile === null ? {} : { clientCa: await readFile(tlsClientCaFile) }) };
}
