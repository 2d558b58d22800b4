/** The arguments of `tocsin agent`, read and checked. Pure. `docs/agent.md` shows {@link AGENT_ARGUMENTS}. */
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import { KEEP } from '@tocsin/device/agent/agent';
import { hostId } from '@tocsin/device/agent/host-id';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import type { Environment } from '../settings.ts';
import { type Arguments, readArguments, readNumber, readWhole } from './arguments.ts';
import { UsageError } from './exit-codes.ts';

/** One option. */
export interface AgentArgument {
  readonly name: string;
  /** What follows it; absent: nothing. */
  readonly value?: string;
  readonly fallback: string;
  readonly prose: string;
}

const INTERVAL = { least: 1, most: 3600, value: 5 } as const;

/** Every option, in the order of the help. */
export const AGENT_ARGUMENTS: readonly AgentArgument[] = [
  {
    name: 'server',
    value: '<url>',
    fallback: '',
    prose:
      'where to: `mqtts://host` (port 8883), `mqtt://host` (1883), or `https://host`, `http://host` of a Tocsin, which take signed envelopes only',
  },
  { name: 'id', value: '<id>', fallback: "the machine's name", prose: 'id of this host, as dashboards show it' },
  { name: 'interval', value: '<s>', fallback: String(INTERVAL.value), prose: 'seconds between frames, 1 to 3600' },
  { name: 'disk', value: '<path>', fallback: '/', prose: 'whose file system `disk_percent` is about' },
  {
    name: 'folder',
    value: '<path>',
    fallback: '`$STATE_DIRECTORY`, else `~/.tocsin-agent`',
    prose: 'holds the outbox and the key; one agent, one folder',
  },
  {
    name: 'keep',
    value: '<frames>',
    fallback: String(KEEP.value),
    prose: 'frames that wait on the disk at most; then the oldest go',
  },
  { name: 'key', fallback: 'no', prose: 'sign, with the key in the folder, which is made when it is missing' },
  { name: 'show-key', fallback: '', prose: 'print the public key to register the host with, and end' },
  { name: 'user', value: '<name>', fallback: 'the id', prose: 'user name at the broker, when there is a password' },
  {
    name: 'password-file',
    value: '<file>',
    fallback: '`TOCSIN_AGENT_PASSWORD`',
    prose: 'password at the broker; its first line counts',
  },
  {
    name: 'api-key-file',
    value: '<file>',
    fallback: '`TOCSIN_AGENT_API_KEY`',
    prose: "an API key with the scope `ingest`: for https, or as the password of Tocsin's own broker",
  },
  { name: 'ca', value: '<file>', fallback: "Node's own list", prose: 'PEM: whom to trust as the server' },
  { name: 'cert', value: '<file>', fallback: '', prose: 'PEM: certificate of this host, for a broker that wants one' },
  { name: 'client-key', value: '<file>', fallback: '', prose: 'PEM: the key of that certificate' },
  { name: 'client-id', value: '<id>', fallback: 'the id and a random part', prose: 'MQTT client id (AWS IoT)' },
  { name: 'topic-prefix', value: '<text>', fallback: '`devices`', prose: 'what comes before `/<id>/metrics`' },
  {
    name: 'clock-url',
    value: '<url>',
    fallback: '',
    prose: 'whose `Date` sets the time of signed envelopes over MQTT, for a host with a wrong clock',
  },
  { name: 'allow-insecure', fallback: 'no', prose: 'allow `mqtt://` and `http://` to another machine' },
  { name: 'once', fallback: 'no', prose: 'one frame, then end: 0 delivered, 69 not now (it is kept), 1 refused' },
  { name: 'json', fallback: 'no', prose: 'news as lines of JSON on standard output' },
];

/** The help's line of arguments. */
export const AGENT_USAGE: string = AGENT_ARGUMENTS.map(({ name, value }) => {
  const text = `--${name}${value === undefined ? '' : ` ${value}`}`;
  return name === 'server' ? text : `[${text}]`;
}).join(' ');

/** What the agent is to do. Files are named, not read. */
export interface AgentCommandOptions {
  /** Null: only the key is to be shown. */
  readonly server: AgentServer | null;
  readonly id: string;
  readonly intervalMs: number;
  readonly disk: string;
  readonly folder: string;
  readonly keep: number;
  readonly signs: boolean;
  readonly user: string | null;
  readonly passwordFile: string | null;
  readonly apiKeyFile: string | null;
  readonly ca: string | null;
  readonly cert: string | null;
  readonly clientKey: string | null;
  readonly clientId: string | null;
  readonly topicPrefix: string | null;
  readonly clockUrl: string | null;
  readonly allowInsecure: boolean;
  readonly once: boolean;
  readonly json: boolean;
}

/** Where to, by which way. */
export interface AgentServer {
  readonly by: 'mqtt' | 'http';
  readonly url: string;
}

/** What the machine says for what is not given. */
export interface AgentDefaults {
  readonly hostname: string;
  readonly home: string;
}

/** This machine's. */
export function machineDefaults(): AgentDefaults {
  return { hostname: hostname(), home: homedir() };
}

/** Reads them; throws a {@link UsageError}. */
export function readAgentOptions(
  args: readonly string[],
  env: Environment,
  defaults: AgentDefaults = machineDefaults(),
): AgentCommandOptions {
  const read = readArguments(args, parserOptions());
  const showsKey = read.flag('show-key');
  const server = showsKey && read.text('server') === undefined ? null : readServer(read.text('server'));
  const signs = read.flag('key');
  if (server?.by === 'http' && !signs && !showsKey)
    throw new UsageError('http and https take signed envelopes only: add --key, and register the host (--show-key)');
  const pair = ['cert', 'client-key'].filter((name) => read.text(name) !== undefined);
  if (pair.length === 1) throw new UsageError('--cert and --client-key go together');
  const [given] = MQTT_ONLY.filter((name) => read.text(name) !== undefined);
  if (server?.by === 'http' && given !== undefined) throw new UsageError(`--${given} is for MQTT`);
  const text = (name: string): string | null => read.text(name) ?? null;
  return {
    server: showsKey ? null : server,
    id: readId(read.text('id'), defaults.hostname),
    intervalMs: readNumber(read, 'interval', INTERVAL.least, INTERVAL.most, INTERVAL.value) * 1000,
    disk: read.text('disk') ?? '/',
    folder: readFolder(read, env, defaults.home),
    keep: readWhole(read, 'keep', KEEP.least, KEEP.most, KEEP.value),
    ...{ signs, user: text('user'), passwordFile: text('password-file'), apiKeyFile: text('api-key-file') },
    ...{ ca: text('ca'), cert: text('cert'), clientKey: text('client-key'), clientId: text('client-id') },
    ...{ topicPrefix: text('topic-prefix'), clockUrl: text('clock-url') },
    allowInsecure: read.flag('allow-insecure'),
    once: read.flag('once'),
    json: read.flag('json'),
  };
}

const MQTT_ONLY: readonly string[] = ['user', 'password-file', 'client-id', 'topic-prefix', 'clock-url'];

function parserOptions(): Record<string, { type: 'string' | 'boolean' }> {
  return Object.fromEntries(
    AGENT_ARGUMENTS.map(({ name, value }) => [name, { type: value === undefined ? 'boolean' : 'string' }]),
  );
}

const WAYS: Readonly<Record<string, AgentServer['by']>> = {
  'mqtt:': 'mqtt',
  'mqtts:': 'mqtt',
  'http:': 'http',
  'https:': 'http',
};

/** The rest of the address is checked by the sender, which also knows what is insecure. */
function readServer(url: string | undefined): AgentServer {
  if (url === undefined) throw new UsageError('--server is missing');
  const by = URL.canParse(url) ? WAYS[new URL(url).protocol] : undefined;
  if (by === undefined) throw new UsageError('--server must begin with mqtts://, mqtt://, https:// or http://');
  return { by, url };
}

function readId(given: string | undefined, name: string): string {
  if (given !== undefined) {
    if (isIdentifier(given)) return given;
    throw new UsageError('--id must be 1 to 64 of A-Z a-z 0-9 . _ -');
  }
  const id = hostId(name);
  if (id === null) throw new UsageError("this machine's name says nothing that others do not say too: give it an --id");
  return id;
}

function readFolder(read: Arguments, env: Environment, home: string): string {
  const given = read.text('folder');
  if (given === '') throw new UsageError('--folder must be a path');
  // systemd names several with colons between; the first is the unit's own.
  const state = (env['STATE_DIRECTORY'] ?? '').split(':', 1)[0] ?? '';
  return given ?? (state === '' ? join(home, '.tocsin-agent') : state);
}
