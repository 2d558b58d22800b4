/**
 * `npm start [-- arguments]`: makes the checkout ready, then becomes the server: `tocsin serve <arguments>` runs in this
 * very process, so signals reach it directly and its exit code is ours. npm passes SIGTERM and SIGINT on; when npm itself
 * is gone (SIGHUP, SIGKILL) the server gets a SIGHUP, for nobody could end it otherwise.
 *
 * Failure: 78 when the folder or Node does not fit, 1 when installing or building fails, 128 + n after a signal.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ready, ROOT } from './prepare.mjs';

const SERVER = join(ROOT, 'packages/server/dist/bin/tocsin.js');
const PARENT_POLL_MS = 1000;

await ready({ projects: ['packages/server'] });
if (process.env.npm_lifecycle_event === 'start') {
  const npm = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGHUP');
  }, PARENT_POLL_MS);
  watch.unref();
}
process.argv = [process.argv[0] ?? 'node', SERVER, 'serve', ...process.argv.slice(2)];
await import(pathToFileURL(SERVER).href);
