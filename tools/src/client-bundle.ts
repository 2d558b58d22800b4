/**
 * The viewer SDK for browsers as one minified module, and how large it is. Built from the sources, by rolldown.
 */
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { rolldown } from 'rolldown';
import { ROOT } from './modules.ts';

/** What the whole of it may weigh, in bytes after gzip: 10 KB of 1024 bytes. */
export const CLIENT_BYTES_MOST = 10_240;

/** A bundle. */
export interface Bundle {
  readonly code: string;
  readonly bytes: number;
  readonly gzipBytes: number;
}

/** Bundles one entry for browsers with everything that it imports. Rejects when something of it cannot be found. */
export async function bundleForBrowsers(entry: string): Promise<Bundle> {
  const bundle = await rolldown({
    input: entry,
    platform: 'browser',
    resolve: { conditionNames: ['source', 'browser', 'import', 'default'] },
    // The production build of libraries that ask, as React does.
    transform: { define: { 'process.env.NODE_ENV': '"production"' } },
    onLog(level, log) {
      if (level === 'warn') throw new Error(log.message);
    },
  });
  try {
    const { output } = await bundle.generate({ format: 'esm', minify: true, comments: false, codeSplitting: false });
    const [{ code }] = output;
    return { code, bytes: Buffer.byteLength(code), gzipBytes: gzipSync(code, { level: 9 }).length };
  } finally {
    await bundle.close();
  }
}

/** Bundles `@tocsin/client`. */
export function bundleClient(): Promise<Bundle> {
  return bundleForBrowsers(join(ROOT, 'packages/client/src/browser.ts'));
}
