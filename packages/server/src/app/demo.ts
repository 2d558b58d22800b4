/**
 * `serve --demo`: a simulated fleet beside the server, so that there is something to see. Stations around Acapulco feel an
 * earthquake every few minutes, hosts get hot in turn; all of it is registered as exercise.
 *
 * The fleet runs in a process of its own, which ends with this one and is started again (after 1 s, doubling to 60 s) when
 * it ends by itself. Its API key lives as long as the demo; the operator that registers it only until that is done.
 * Below the default limits: 28 envelopes a second, 40 in an earthquake.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { FLEET_DEFAULTS, type FleetOptions } from '@tocsin/device/simulate/fleet';
import { runFleetProcesses } from '@tocsin/device/simulate/fleet-processes';
import type { Network } from '@tocsin/device/simulate/network';
import { openOperator } from '@tocsin/device/simulate/operator';
import type { Logger } from '../ops/logging.ts';
import { openDemoNetwork } from './demo-fleet.ts';
import { makeTemporaryAccess, removeTemporaryAccess, type CredentialBook } from './temporary-access.ts';

/** What the demo runs beside. */
export interface DemoGround {
  /** Where the server can be reached from this machine. */
  readonly origin: string;
  readonly dataDir: string;
  readonly credentials: CredentialBook;
  readonly log: Logger;
  /** From one earthquake to the next, s. */
  readonly everySeconds: number;
}

/** A running demo. */
export interface Demo {
  /** Ends the fleet and its credentials. */
  stop(): Promise<void>;
}

/** From one earthquake to the next unless said otherwise, s; and its bounds. */
export const DEMO_EVERY = { seconds: 180, least: 10, most: 86_400 } as const;
/** The first one, s after the start: a picker needs 20 s to know the noise and the clock of its station. */
export const DEMO_FIRST_SECONDS = 25;

const RATE = 4;
const CONNECTIONS = 16;
const RESTART = { leastMs: 1000, mostMs: 60_000 } as const;

/** Starts it: resolves once the fleet is registered. Rejects with a FleetError or what identity says. */
export async function startDemo(ground: DemoGround): Promise<Demo> {
  const { origin, dataDir, credentials, log, everySeconds } = ground;
  const name = `demo-${randomBytes(6).toString('hex')}`;
  const access = await makeTemporaryAccess(credentials, name, { apiKey: true, operator: true });
  const onlyKey = { ...access, operator: null };
  let network: Network | null = null;
  try {
    network = await registered(origin, dataDir, access, log);
  } finally {
    await removeTemporaryAccess(credentials, network === null ? access : { ...access, apiKey: null });
  }
  log.info(
    { devices: network.devices.length, everySeconds },
    'demo: simulated devices send, all they raise is an exercise',
  );
  const abort = new AbortController();
  const running = keepRunning(ground, network, access.apiKey?.key ?? '', abort.signal);
  return {
    async stop() {
      abort.abort();
      await running;
      await removeTemporaryAccess(credentials, onlyKey);
    },
  };
}

async function registered(
  origin: string,
  dataDir: string,
  { operator: account }: Awaited<ReturnType<typeof makeTemporaryAccess>>,
  log: Logger,
): Promise<Network> {
  if (account === null) throw new TypeError('the demo has no operator');
  const operator = await openOperator({ origin, ...account });
  try {
    return await openDemoNetwork({ dataDir, operator, warn: (fields, message) => log.warn(fields, message) });
  } finally {
    operator.close();
  }
}

/** Runs the fleet until `signal`. Never rejects. */
async function keepRunning(
  { origin, everySeconds, log }: DemoGround,
  network: Network,
  apiKey: string,
  signal: AbortSignal,
): Promise<void> {
  let waitMs: number = RESTART.leastMs;
  while (!signal.aborted) {
    const began = performance.now();
    const run = `run-${randomBytes(5).toString('hex')}`;
    try {
      const options = demoOptions({ origin, apiKey, run, everySeconds }, network);
      const { ended } = await runFleetProcesses(options, 1, { signal });
      if (!signal.aborted) log.warn({ ended, waitMs }, 'demo: the fleet ended and is started again');
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, waitMs }, 'demo: the fleet failed and is started again');
    }
    if (performance.now() - began > RESTART.mostMs) waitMs = RESTART.leastMs;
    await pause(waitMs, undefined, { signal }).catch(() => undefined);
    waitMs = Math.min(RESTART.mostMs, waitMs * 2);
  }
}

/** What the demo's fleet does. Pure. */
export function demoOptions(
  { origin, apiKey, run, everySeconds }: { origin: string; apiKey: string; run: string; everySeconds: number },
  { zones, devices }: Network,
): FleetOptions {
  const everyMs = everySeconds * 1000;
  return {
    ...FLEET_DEFAULTS,
    ...{ origin, apiKey, devices, run, seed: run },
    ratePerSecond: RATE,
    seconds: null,
    connections: CONNECTIONS,
    earthquakes: {
      seed: run,
      firstMs: DEMO_FIRST_SECONDS * 1000,
      everyMs,
      count: null,
      leastMagnitude: 5.2,
      mostMagnitude: 6.2,
      around: zones.slice(0, 1).map(({ place }) => place),
      withinKm: 15,
    },
    // Each host speaks every 18 s: a third of the time is long enough for a hot one to say so.
    hot: { everyMs: Math.max(30_000, everyMs / 3), lastingMs: Math.max(20_000, everyMs / 5) },
  };
}
