/**
 * `npm run soak -- [--viewers n] [--minutes n] [--instances n] [--rate n]`: makes the checkout ready, then runs
 * `bench/src/soak.ts`, whose exit codes it has.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, ready } from './prepare.mjs';

await ready({ projects: ['bench'] });
await import(pathToFileURL(join(ROOT, 'bench/dist/src/soak.js')).href);
