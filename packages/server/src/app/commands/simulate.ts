/**
 * `tocsin simulate`: a fleet that signs for real, with attackers in it, against a running server; prints what was answered
 * and checks it. Everything that it makes on the server is marked as exercise and removed again.
 *
 * Exit codes: 1 when an attack was accepted, an honest envelope was refused with anything but 429 and 503 or not answered,
 * or what is stored is not what was accepted; 69 when the server cannot be reached. The first SIGINT or SIGTERM ends the
 * run in order, a second one at once (130, 143).
 */
import { randomBytes } from 'node:crypto';
import { FLEET_DEFAULTS, type FleetOptions } from '@tocsin/device/simulate/fleet';
import { runFleetProcesses } from '@tocsin/device/simulate/fleet-processes';
import type { FleetReport } from '@tocsin/device/simulate/fleet-report';
import { type Network, planNetwork, registerNetwork, removeNetwork } from '@tocsin/device/simulate/network';
import { openOperator, type Operator } from '@tocsin/device/simulate/operator';
import { createRandom } from '@tocsin/device/simulate/random';
import { createEnds } from '../../lib/ends.ts';
import { type Command, type CommandContext, requireSettings } from './command.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { createProgress } from './progress.ts';
import { type Access, obtainAccess } from './simulate-access.ts';
import { askServer } from './simulate-check.ts';
import { readSimulateOptions, SIMULATE_USAGE, type SimulateOptions } from './simulate-options.ts';
import { hintsOf, problemsOf, reasonOf, type ServerSide, summaryObject, summaryText } from './simulate-summary.ts';
import type { Terminal } from './terminal.ts';

/** The command. */
export const simulateCommand: Command = {
  name: 'simulate',
  usage: SIMULATE_USAGE,
  summary: 'put a simulated fleet on a server, with attackers if you like; see docs/simulate.md',
  async run(args, context) {
    const options = readSimulateOptions(args);
    const settings = requireSettings(context);
    const stop = watchStop(context);
    const ends = createEnds();
    try {
      const access = await obtainAccess(options, settings, context);
      ends.add(() => giveBack(access, context.terminal));
      return await simulate(options, access, context.terminal, stop.signal, ends.add);
    } finally {
      try {
        await ends.endAll();
      } finally {
        stop.close();
      }
    }
  },
};

async function giveBack(access: Access, terminal: Terminal): Promise<void> {
  if (access.temporary === null) return;
  await access.remove();
  terminal.err(`removed ${access.temporary}\n`);
}

async function simulate(
  options: SimulateOptions,
  access: Access,
  terminal: Terminal,
  signal: AbortSignal,
  atEnd: (end: () => unknown) => void,
): Promise<ExitCode> {
  if (access.temporary !== null) terminal.err(`made ${access.temporary}, for the time of this run\n`);
  const operator = await openOperator(access);
  atEnd(() => operator.close());
  const run = `sim-${randomBytes(4).toString('hex')}`;
  const seed = options.seed ?? run;
  const { seismic, hosts, zones, waveform } = options;
  const shape = { prefix: run, name: 'Simulation', seismic, hosts, zones, waveform };
  const network = planNetwork(shape, createRandom(`${seed}/places`));
  if (!options.keep) atEnd(() => remove(operator, network, terminal));
  await register(operator, network, terminal, signal);
  if (options.keep)
    terminal.err(`the devices stay: ${run}-0 to ${run}-${network.devices.length - 1}, marked as exercise\n`);
  if (signal.aborted) return EXIT.done;
  const report = await runWithProgress(fleetOf(options, access, network, run, seed), options, terminal, signal);
  const server = report.ended === 'unreachable' ? null : await askServer(operator, network, report);
  return conclude(report, server, options, access.origin, terminal);
}

function fleetOf(options: SimulateOptions, access: Access, network: Network, run: string, seed: string): FleetOptions {
  const { earthquakes, everySeconds, ratePerSecond, arrival, seconds, readings, attacks, attackShare } = options;
  return {
    ...FLEET_DEFAULTS,
    ...{ origin: access.origin, apiKey: access.apiKey, devices: network.devices, run, seed },
    ...{ ratePerSecond, arrival, seconds, readings, attacks, attackShare, connections: options.connections },
    hot: { everyMs: HOT_EVERY_MS, lastingMs: HOT_LASTING_MS },
    earthquakes:
      earthquakes === 0
        ? null
        : {
            seed,
            // A picker needs some 20 s to know the noise and the clock of its station.
            firstMs: options.waveform ? WARM_MS : everySeconds * 500,
            everyMs: everySeconds * 1000,
            count: earthquakes,
            leastMagnitude: 5,
            mostMagnitude: 6.5,
            around: network.zones.map(({ place }) => place),
            withinKm: 25,
          },
  };
}

const HOT_EVERY_MS = 20_000;
const HOT_LASTING_MS = 8000;
const WARM_MS = 25_000;

async function register(operator: Operator, network: Network, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const progress = createProgress(terminal, 'registering');
  const begun = performance.now();
  await registerNetwork(operator, network, (done, of) => progress.show(done / of, `${done} devices`), signal);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  progress.done(`registered ${count(network)} (${seconds} s)`);
}

function count({ devices, zones }: Network): string {
  const some = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;
  return `${some(devices.length, 'device')} in ${some(zones.length, 'zone')}`;
}

async function remove(operator: Operator, network: Network, terminal: Terminal): Promise<void> {
  const progress = createProgress(terminal, 'revoking');
  try {
    await removeNetwork(operator, network, (done, of) => progress.show(done / of, `${done} devices`));
  } catch (error) {
    progress.done(`devices of this run may still be there: ${network.devices[0]?.id ?? ''} and on, marked as exercise`);
    throw error;
  }
  progress.done(`removed ${count(network)}`);
}

async function runWithProgress(
  fleet: FleetOptions,
  { processes, seconds }: SimulateOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<FleetReport> {
  const progress = createProgress(terminal, 'sending');
  const report = await runFleetProcesses(fleet, processes, {
    signal,
    onProgress: ({ elapsedMs, sent, accepted, refused, outstanding }) =>
      progress.show(
        elapsedMs / (seconds * 1000),
        `sent ${sent}, accepted ${accepted}, refused ${refused}, waiting ${outstanding}`,
      ),
  });
  progress.done(
    `sent ${report.planned - report.unsent} envelopes${report.ended === 'stopped' ? ', then stopped' : ''}`,
  );
  return report;
}

/** Prints what came of it; answers the exit code. */
function conclude(
  report: FleetReport,
  server: ServerSide | null,
  { json }: SimulateOptions,
  origin: string,
  terminal: Terminal,
): ExitCode {
  const problems = problemsOf(report, server);
  terminal.out(
    json ? `${JSON.stringify(summaryObject(report, server, problems))}\n` : `\n${summaryText(report, server)}`,
  );
  if (!json) for (const hint of hintsOf(report)) terminal.out(`hint      ${hint}\n`);
  for (const problem of problems) terminal.err(`tocsin: ${problem}\n`);
  if (report.ended === 'unreachable') {
    terminal.err(`tocsin: the server at ${origin} could not be reached any more: ${reasonOf(report)}\n`);
    return EXIT.unreachable;
  }
  return problems.length === 0 ? EXIT.done : EXIT.failed;
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** The first signal aborts, a second one ends the process. */
function watchStop({ events, terminal }: CommandContext): { readonly signal: AbortSignal; close(): void } {
  const abort = new AbortController();
  const restore = Object.entries(SIGNALS).map(([name, code]) => {
    const listener = (): void => {
      if (abort.signal.aborted) process.exit(code);
      abort.abort();
      terminal.err('\nending: answers are waited for, then everything is removed; once more ends at once\n');
    };
    events.on(name, listener);
    return () => events.off(name, listener);
  });
  return { signal: abort.signal, close: () => restore.forEach((back) => back()) };
}
