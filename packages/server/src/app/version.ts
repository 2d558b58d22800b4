/** The version of this server, as its package says it. */
import { readFileSync } from 'node:fs';

/** From `package.json` of `@tocsin/server`, which lies above this file in source and in `dist`. */
export const VERSION: string = readVersion();

function readVersion(): string {
  for (let folder = new URL('.', import.meta.url); folder.pathname !== '/'; folder = new URL('..', folder)) {
    const manifest = readManifest(new URL('package.json', folder));
    if (manifest?.name === '@tocsin/server') return manifest.version ?? 'unknown';
  }
  return 'unknown';
}

function readManifest(file: URL): { readonly name?: string; readonly version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as { name?: string; version?: string };
  } catch {
    return undefined;
  }
}
