/**
 * `npm run bench -- <name>… [--json]`: makes the checkout ready, then measures (`bench/src/run.ts`).
 *
 * Failure: 64 for a name that there is not, 1 when the build or a measurement fails.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, ready } from './prepare.mjs';

await ready({ projects: ['bench'] });
await import(pathToFileURL(join(ROOT, 'bench/dist/src/run.js')).href);
