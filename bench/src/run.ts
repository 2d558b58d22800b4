/** `npm run bench -- <name> [--json]`. */
import { benchAgent } from './agent.ts';
import { benchAlert } from './alert.ts';
import { benchBridge } from './bridge.ts';
import { benchCluster } from './cluster.ts';
import { benchDetect } from './detect.ts';
import { benchFanout } from './fanout.ts';
import { benchFleet } from './fleet.ts';
import { benchIngest } from './ingest.ts';
import { benchLive } from './live.ts';
import { benchLog } from './log.ts';
import { benchMemory } from './memory.ts';
import { benchOverload } from './overload.ts';
import { benchPersist } from './persist.ts';
import { drawPicture } from './picture.ts';
import { benchSensitivity } from './sensitivity.ts';
import { benchStorm } from './storm.ts';
import { type BenchResult, toJson, toTable } from './table.ts';

const BENCHES: Readonly<Record<string, () => Promise<BenchResult>>> = {
  ingest: benchIngest,
  fanout: benchFanout,
  bridge: benchBridge,
  fleet: benchFleet,
  overload: benchOverload,
  memory: benchMemory,
  persist: benchPersist,
  alert: benchAlert,
  log: benchLog,
  cluster: benchCluster,
  detect: benchDetect,
  live: benchLive,
  storm: benchStorm,
  sensitivity: benchSensitivity,
  agent: benchAgent,
  picture: drawPicture,
};

const names = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const json = process.argv.includes('--json');
const unknown = names.filter((name) => !(name in BENCHES));
if (names.length === 0 || unknown.length > 0) {
  process.stderr.write(`usage: npm run bench -- <name>… [--json]; names: ${Object.keys(BENCHES).join(', ')}\n`);
  process.exit(64);
}
for (const name of names) {
  const result = await BENCHES[name]?.();
  if (result !== undefined) process.stdout.write(`${json ? toJson(result) : toTable(result)}\n`);
}
