/**
 * Loaded into a server process that is measured (`--import`): SIGUSR2 collects garbage, so that resident memory shows what
 * is held. With `BENCH_PROFILE` set, SIGPWR begins a profile of the processor there, and ends and writes it the next time.
 */
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { setFlagsFromString, writeHeapSnapshot } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
process.on('SIGUSR2', () => {
  collect();
  collect();
});

const folder = process.env['BENCH_PROFILE'];
if (folder !== undefined) {
  let session: Session | null = null;
  process.on('SIGPWR', () => {
    if (session === null) {
      session = new Session();
      session.connect();
      session.post('Profiler.enable');
      session.post('Profiler.setSamplingInterval', { interval: 500 });
      session.post('Profiler.start');
      return;
    }
    const ending = session;
    session = null;
    ending.post('Profiler.stop', (_error, { profile }) => {
      writeFileSync(`${folder}/${process.pid}-${Date.now()}.cpuprofile`, JSON.stringify(profile));
      ending.disconnect();
    });
  });
  process.on('SIGURG', () => void writeHeapSnapshot(`${folder}/${process.pid}-${Date.now()}.heapsnapshot`));
}
