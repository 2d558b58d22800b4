/**
 * `tocsin agent`: reports this machine to a server until it is told to stop.
 *
 * It reads none of the server's settings (it runs on other machines) and loads nothing of the server: it has to be small.
 * Secrets come from files and the environment, never from an argument, and are never shown. Exit codes: 0 done or told to
 * stop, 1 refused (`--once`) or failed, 64 wrong use, 69 the server cannot be reached (`--once`), 78 a folder, file or
 * number of this machine that cannot be used. A server that is away or refuses ends nothing: frames are kept.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Agent, type AgentOptions, type OneFrame, openAgent } from '@tocsin/device/agent/agent';
import { createGpu } from '@tocsin/device/agent/gpu';
import { createMachine, MeasureError } from '@tocsin/device/agent/machine';
import { thisProcess } from '@tocsin/device/agent/sampler';
import { DeviceError, systemCode } from '@tocsin/device/device-error';
import type { Sender } from '@tocsin/device/sender';
import { systemTime } from '@tocsin/device/time-source';
import { type AgentLine, agentLine, reasonText } from './agent-lines.ts';
import { AGENT_USAGE, type AgentCommandOptions, type AgentServer, readAgentOptions } from './agent-options.ts';
import type { Command, CommandContext } from './command.ts';
import { type EndingWatch, watchEnding } from './ending.ts';
import { EXIT, type ExitCode, SettingsError, UsageError } from './exit-codes.ts';

/** A number of the GPU that is older than so many intervals, or than this, is not shown. */
const GPU_INTERVALS = 3;
const GPU_FRESH_MS = 30_000;
/** With `--once`, how long a frame may take, ms: what waits from earlier goes first. */
const ONCE_MS = 60_000;
const REQUEST_MS = 15_000;
const MOST_SECRET_BYTES = 4096;
const MOST_PEM_BYTES = 262_144;

/** The command. */
export const agentCommand: Command = {
  name: 'agent',
  usage: AGENT_USAGE,
  summary: "report this machine's cpu, memory, disk and gpu, with an outbox on disk; see docs/agent.md",
  async run(args, context) {
    const options = readAgentOptions(args, context.env);
    const { server } = options;
    try {
      return await (server === null ? showKey(options, context) : report(options, server, context));
    } catch (error) {
      throw mistakeOf(error);
    }
  },
};

/** Options of the SDK that stand at the beginning of what it says, as the command line calls them. */
const OPTION_WORDS: ReadonlyMap<string, string> = new Map([
  ['broker', '--server'],
  ['server', '--server'],
  ['topicPrefix', '--topic-prefix'],
  ['clientId', '--client-id'],
  ['clockUrl', '--clock-url'],
  ['username', '--user'],
]);
/** The option that allows it, as the SDK and as the command line call it. */
const INSECURE_WORDS = ['allowInsecure be true', 'add --allow-insecure'] as const;

/** What is wrong with this machine's side is a mistake in the settings or the arguments, in one line. */
function mistakeOf(error: unknown): unknown {
  if (error instanceof MeasureError) return new SettingsError([`tocsin: ${error.message}`]);
  if (!(error instanceof DeviceError)) return error;
  return error.code === 'option-invalid' || error.code === 'server-insecure'
    ? new UsageError(error.message.replace(/^\w+/, (word) => OPTION_WORDS.get(word) ?? word).replace(...INSECURE_WORDS))
    : new SettingsError([`tocsin: ${error.message}`]);
}

async function showKey({ folder }: AgentCommandOptions, { terminal }: CommandContext): Promise<ExitCode> {
  const { makeFolder } = await import('@tocsin/device/make-folder');
  const { loadOrCreateKey, publicKeyPem } = await import('@tocsin/device/key');
  await makeFolder(folder).catch((error: unknown) => {
    throw new SettingsError([`tocsin: ${folder} cannot be made: ${systemCode(error)}`]);
  });
  terminal.out(publicKeyPem(await loadOrCreateKey(join(folder, 'key.pem'))));
  return EXIT.done;
}

async function report(
  options: AgentCommandOptions,
  server: AgentServer,
  { env, terminal, events }: CommandContext,
): Promise<ExitCode> {
  const print = (line: AgentLine): void =>
    (options.json ? terminal.out : terminal.err)(agentLine(line, options.json, Date.now()));
  const watch = watchEnding(events, (error) => terminal.err(`tocsin: ${describe(error)}\n`));
  try {
    const agent = await openAgent(agentOptions(options, await createSender(options, server, env), print));
    const { id, folder, signs, intervalMs } = options;
    const { queued } = agent.status();
    // The sender has refused an address with a credential in it.
    const { url } = server;
    print({ news: 'started', id, server: url, signed: signs, intervalSeconds: intervalMs / 1000, folder, queued });
    try {
      return await (options.once ? reportOnce(agent, watch, terminal.err) : reportOn(agent, watch));
    } finally {
      await agent.stop();
      const { delivered, queued: kept, dropped } = agent.status();
      print({ news: 'stopped', delivered, queued: kept, dropped });
    }
  } finally {
    watch.close();
  }
}

function agentOptions(
  { id, folder, intervalMs, keep, disk, signs }: AgentCommandOptions,
  sender: Sender,
  tell: AgentOptions['tell'],
): AgentOptions {
  const time = systemTime;
  const random = Math.random;
  const freshMs = Math.max(GPU_INTERVALS * intervalMs, GPU_FRESH_MS);
  return {
    ...{ id, folder, sender, intervalMs, keep, time, random, tell, own: thisProcess },
    sign: signs ? async (place) => (await import('@tocsin/device/key')).loadOrCreateKey(join(place, 'key.pem')) : null,
    machine: createMachine({ disk, time }),
    gpu: createGpu({ freshMs, time, random }),
  };
}

async function reportOn(agent: Agent, watch: EndingWatch): Promise<ExitCode> {
  agent.start();
  return (await watch.cause).kind === 'signal' ? EXIT.done : EXIT.failed;
}

async function reportOnce(agent: Agent, watch: EndingWatch, say: (text: string) => void): Promise<ExitCode> {
  const ended = watch.cause.then(({ kind }) => (kind === 'signal' ? EXIT.done : EXIT.failed));
  const sent = agent.once(ONCE_MS).then((frame) => {
    if (frame.outcome === 'waiting' || frame.outcome === 'refused')
      say(`tocsin: not delivered, kept for the next run: ${reasonText(frame.reason)}\n`);
    return ONCE_CODES[frame.outcome];
  });
  return Promise.race([sent, ended]);
}

const ONCE_CODES: Readonly<Record<OneFrame['outcome'], ExitCode>> = {
  delivered: EXIT.done,
  waiting: EXIT.unreachable,
  refused: EXIT.failed,
  'dead-letter': EXIT.failed,
};

/** Loads only the way that is taken. */
async function createSender(
  options: AgentCommandOptions,
  { by, url }: AgentServer,
  env: CommandContext['env'],
): Promise<Sender> {
  const { id, allowInsecure, signs, clientId, topicPrefix, clockUrl } = options;
  const tls = await readTls(options);
  const apiKey = await readSecret('--api-key-file', options.apiKeyFile, env['TOCSIN_AGENT_API_KEY']);
  if (by === 'http') {
    if (apiKey === null) throw new UsageError('an API key is missing: --api-key-file or TOCSIN_AGENT_API_KEY');
    const { createHttpSender } = await import('@tocsin/device/http-sender');
    return createHttpSender({ server: url, apiKey, allowInsecure, tls, requestMs: REQUEST_MS, connections: 1 });
  }
  const { createMqttSender } = await import('@tocsin/device/mqtt-sender');
  const password = (await readSecret('--password-file', options.passwordFile, env['TOCSIN_AGENT_PASSWORD'])) ?? apiKey;
  const username = options.user ?? (password === null ? null : id);
  return createMqttSender({
    ...{ broker: url, id, allowInsecure, tls, timeoutMs: REQUEST_MS, topic: signs ? 'readings' : 'metrics' },
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(clientId === null ? {} : { clientId }),
    ...(topicPrefix === null ? {} : { topicPrefix }),
    ...(clockUrl === null ? {} : { clockUrl }),
  });
}

async function readTls({ ca, cert, clientKey }: AgentCommandOptions): Promise<Record<string, string>> {
  const files = [
    ['ca', '--ca', ca],
    ['cert', '--cert', cert],
    ['key', '--client-key', clientKey],
  ] as const;
  const texts: Record<string, string> = {};
  for (const [name, option, path] of files)
    if (path !== null) texts[name] = await readBounded(option, path, MOST_PEM_BYTES);
  await checkTls(texts, files);
  return texts;
}

/** What cannot be used for any connection is said before the first one. */
async function checkTls(
  texts: Readonly<Record<string, string>>,
  files: readonly (readonly [string, string, string | null])[],
): Promise<void> {
  for (const [name, option, path] of files) {
    const label =
      name === 'key' ? /-----BEGIN [A-Z ]*PRIVATE KEY-----/ : /-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----/;
    if (path !== null && !label.test(texts[name] ?? ''))
      throw new SettingsError([`tocsin: ${option} ${path} holds no ${name === 'key' ? 'private key' : 'certificate'}`]);
  }
  if (texts['key'] === undefined) return;
  const { createSecureContext } = await import('node:tls');
  try {
    createSecureContext(texts);
  } catch {
    throw new SettingsError(['tocsin: --client-key must be the private key of --cert, without a passphrase']);
  }
}

/** The first line of the file, else the text of the environment; null for neither. Never shown. */
async function readSecret(option: string, path: string | null, given: string | undefined): Promise<string | null> {
  if (path === null) return given === undefined || given === '' ? null : given;
  const [line = ''] = (await readBounded(option, path, MOST_SECRET_BYTES)).split(/\r?\n/, 1);
  if (line === '') throw new SettingsError([`tocsin: ${option} ${path} is empty`]);
  return line;
}

async function readBounded(option: string, path: string, most: number): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(most + 1), 0, most + 1, 0);
      if (bytesRead > most) throw new SettingsError([`tocsin: ${option} ${path} is larger than ${most} bytes`]);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof SettingsError) throw error;
    throw new SettingsError([`tocsin: ${option} ${path} cannot be read: ${systemCode(error) || 'unknown'}`]);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
