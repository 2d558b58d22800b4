/**
 * A process of a fleet: gets its part over the private channel, prepares, runs at `go`, tells how far it is and what came
 * of it. Ends when its parent does.
 */
import process from 'node:process';
import type { FleetOptions } from './fleet.ts';
import type { FleetNews, FleetOrder } from './fleet-processes.ts';
import { runFleet } from './run-fleet.ts';

let options: FleetOptions | null = null;
const stop = new AbortController();

function tell(news: FleetNews, then: () => void = () => undefined): void {
  if (process.connected) process.send?.(news, undefined, undefined, then);
}

process.on('disconnect', () => process.exit(0));
process.on('message', (order: FleetOrder) => {
  if (order === 'stop') stop.abort();
  else if (order !== 'go') {
    options = order.prepare;
    tell('prepared');
  } else if (options !== null) {
    void runFleet(options, { signal: stop.signal, onProgress: (progress) => tell({ progress }) }).then(
      (report) => tell({ report }, () => process.exit(0)),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(1);
      },
    );
  }
});
