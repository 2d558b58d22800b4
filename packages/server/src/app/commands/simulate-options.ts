/** The arguments of `tocsin simulate`, read and checked. Pure. */
import type { Attack, FleetOptions } from '@tocsin/device/simulate/fleet';
import { ATTACKS } from '@tocsin/device/simulate/fleet';
import { type Arguments, readArguments, readNumber, readWhole } from './arguments.ts';
import { UsageError } from './exit-codes.ts';

/** What is to be simulated. Shares are 0 to 1. */
export interface SimulateOptions {
  /** Null: the server that the settings name. */
  readonly server: string | null;
  readonly seismic: number;
  readonly hosts: number;
  readonly zones: number;
  readonly waveform: boolean;
  readonly ratePerSecond: number;
  readonly seconds: number;
  readonly arrival: FleetOptions['arrival'];
  readonly readings: number;
  readonly seed: string | null;
  readonly attacks: readonly Attack[];
  readonly attackShare: number;
  readonly earthquakes: number;
  readonly everySeconds: number;
  readonly connections: number;
  readonly processes: number;
  readonly apiKeyFile: string | null;
  readonly email: string | null;
  readonly passwordStdin: boolean;
  readonly keep: boolean;
  readonly json: boolean;
}

/** The help's line of arguments. */
export const SIMULATE_USAGE: string =
  '[--devices <n>] [--rate <n/s>] [--duration <s>] [--attack replay,forged,stale,malformed] [--attack-share <%>] ' +
  '[--earthquakes <n>] [--every <s>] [--profile seismic|host|mixed] [--host-share <%>] [--waveform] [--zones <n>] ' +
  '[--readings <n>] [--arrival poisson|regular] [--seed <text>] [--connections <n>] [--processes <n>] [--server <url>] ' +
  '[--api-key-file <file>] [--email <address> [--password-stdin]] [--keep] [--json]';

const DEFAULTS = { devices: 100, rate: 40, seconds: 30, attackShare: 10, hostShare: 25, everySeconds: 60 } as const;
const MOST = {
  devices: 100_000,
  rate: 100_000,
  seconds: 86_400,
  zones: 1000,
  connections: 10_000,
  processes: 64,
  earthquakes: 1000,
} as const;
const READINGS = 500;
const DEVICES_OF_A_ZONE = 100;
const ZONES_UNASKED = 20;
const CONNECTIONS = 256;
/** The first earthquake of a fleet with waveforms comes after 25 s; its waves need some time. */
const WAVEFORM_SECONDS = 40;
const SEED = /^[\x21-\x7E]{1,64}$/;

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;
const ARGUMENTS = {
  devices: text,
  rate: text,
  duration: text,
  attack: text,
  'attack-share': text,
  earthquakes: text,
  every: text,
  profile: { ...text, default: 'seismic' },
  'host-share': text,
  waveform: flag,
  zones: text,
  readings: text,
  arrival: { ...text, default: 'poisson' },
  seed: text,
  connections: text,
  processes: text,
  server: text,
  'api-key-file': text,
  email: text,
  'password-stdin': flag,
  keep: flag,
  json: flag,
} as const;

/** Reads them; throws a {@link UsageError}. */
export function readSimulateOptions(args: readonly string[]): SimulateOptions {
  const read = readArguments(args, ARGUMENTS);
  const fleet = readFleet(read);
  const attacks = readAttacks(read.text('attack'));
  if (attacks.length === 0 && read.text('attack-share') !== undefined)
    throw new UsageError('--attack-share needs --attack');
  if (attacks.length > 0 && fleet.waveform && fleet.hosts === 0)
    throw new UsageError('attacks take the place of envelopes at --rate, which a fleet of waveforms only has none of');
  const earthquakes = readWhole(read, 'earthquakes', 0, MOST.earthquakes, 0);
  if (earthquakes > 0 && fleet.seismic === 0) throw new UsageError('--earthquakes needs seismic devices');
  const seconds = readNumber(read, 'duration', 1, MOST.seconds, DEFAULTS.seconds);
  if (earthquakes > 0 && fleet.waveform && seconds < WAVEFORM_SECONDS)
    throw new UsageError(
      `--earthquakes with --waveform needs a --duration of ${WAVEFORM_SECONDS} s: pickers learn the noise first`,
    );
  const email = read.text('email') ?? null;
  if (read.flag('password-stdin') && email === null) throw new UsageError('--password-stdin needs --email');
  const seed = read.text('seed') ?? null;
  if (seed !== null && !SEED.test(seed)) throw new UsageError('--seed must be 1 to 64 visible characters');
  return {
    ...fleet,
    server: readServer(read.text('server')),
    seconds,
    arrival: oneOf(read, 'arrival', ['poisson', 'regular']),
    readings: readWhole(read, 'readings', 1, READINGS, 1),
    seed,
    attacks,
    attackShare: attacks.length === 0 ? 0 : readNumber(read, 'attack-share', 0.1, 100, DEFAULTS.attackShare) / 100,
    earthquakes,
    everySeconds: readNumber(
      read,
      'every',
      1,
      MOST.seconds,
      Math.min(DEFAULTS.everySeconds, seconds / (earthquakes + 1)),
    ),
    connections: readWhole(read, 'connections', 1, MOST.connections, CONNECTIONS),
    processes: readWhole(read, 'processes', 1, MOST.processes, 1),
    apiKeyFile: read.text('api-key-file') ?? null,
    email,
    passwordStdin: read.flag('password-stdin'),
    keep: read.flag('keep'),
    json: read.flag('json'),
  };
}

type FleetPart = Pick<SimulateOptions, 'seismic' | 'hosts' | 'zones' | 'waveform' | 'ratePerSecond'>;

function readFleet(read: Arguments): FleetPart {
  const devices = readWhole(read, 'devices', 1, MOST.devices, DEFAULTS.devices);
  const profile = oneOf(read, 'profile', ['seismic', 'host', 'mixed']);
  if (profile !== 'mixed' && read.text('host-share') !== undefined)
    throw new UsageError('--host-share needs --profile mixed');
  const share = readNumber(read, 'host-share', 0, 100, DEFAULTS.hostShare) / 100;
  const hosts = profile === 'host' ? devices : profile === 'seismic' ? 0 : Math.round(devices * share);
  const seismic = devices - hosts;
  const waveform = read.flag('waveform');
  if (waveform && seismic === 0) throw new UsageError('--waveform needs seismic devices');
  if (waveform && hosts === 0 && read.text('rate') !== undefined)
    throw new UsageError('--rate has no meaning when every device sends waveforms: each sends a packet every 1.024 s');
  const fitting = Math.min(ZONES_UNASKED, Math.max(1, Math.round(seismic / DEVICES_OF_A_ZONE)));
  const zones = readWhole(read, 'zones', 1, MOST.zones, fitting);
  const rate = readNumber(read, 'rate', 0.001, MOST.rate, DEFAULTS.rate);
  return { seismic, hosts, zones, waveform, ratePerSecond: waveform && hosts === 0 ? 0 : rate };
}

function readAttacks(list: string | undefined): readonly Attack[] {
  if (list === undefined) return [];
  const wanted = list.split(',').map((name) => name.trim());
  if (wanted.some((name) => !ATTACKS.some((known) => known === name)))
    throw new UsageError(`--attack must be of ${ATTACKS.join(', ')}`);
  return ATTACKS.filter((known) => wanted.includes(known));
}

function readServer(address: string | undefined): string | null {
  if (address === undefined) return null;
  const url = URL.canParse(address) ? new URL(address) : null;
  const plain = url !== null && url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '';
  if (url === null || !plain || !['http:', 'https:'].includes(url.protocol))
    throw new UsageError('--server must be the address of a server, as http://127.0.0.1:8080');
  return url.origin;
}

function oneOf<Name extends string>(read: Arguments, option: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === read.text(option));
  if (found === undefined) throw new UsageError(`--${option} must be ${names.join(' or ')}`);
  return found;
}
