/**
 * How a simulated fleet gets in: the credentials that were given, and in place of those that were not temporary ones,
 * made beside a server of this machine and removed at the end.
 *
 * Secrets come from files, the environment, standard input or a prompt, never from an argument. Order: the server must
 * answer before anything is made, or making it would start a database of its own.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createHttpPool } from '@tocsin/device/simulate/http-pool';
import { FleetError, request } from '@tocsin/device/simulate/operator';
import type { Settings } from '../settings.ts';
import { makeTemporaryAccess, removeTemporaryAccess } from '../temporary-access.ts';
import type { CommandContext } from './command.ts';
import { UsageError } from './exit-codes.ts';
import type { SimulateOptions } from './simulate-options.ts';
import { withIdentity } from './with-identity.ts';

/** What is needed to speak to the server. */
export interface Access {
  readonly origin: string;
  readonly apiKey: string;
  readonly email: string;
  readonly password: string;
  /** What was made for the time of the run, in words; null when nothing was. */
  readonly temporary: string | null;
  /** Removes that. */
  remove(): Promise<void>;
}

interface Given {
  readonly apiKey: string | null;
  readonly operator: { readonly email: string; readonly password: string } | null;
}

const PATIENCE_MS = 5000;
const LOOK_MS = 100;
const MOST_KEY_BYTES = 4096;

/** Finds or makes it. Rejects with a UsageError, or with a FleetError. */
export async function obtainAccess(
  options: SimulateOptions,
  settings: Settings,
  context: CommandContext,
): Promise<Access> {
  const origin = options.server ?? ownOrigin(settings);
  await requireServer(origin);
  const given = await readGiven(options, settings, context);
  const { apiKey, operator } = given;
  if (apiKey !== null && operator !== null)
    return { origin, apiKey, ...operator, temporary: null, remove: () => Promise.resolve() };
  if (!isOwn(origin, settings)) throw missingCredentials(given);
  return makeTemporary(origin, given, context);
}

/** Where the settings let a server of this machine listen. Pure. */
export function ownOrigin({ host, port, tlsCertFile }: Settings): string {
  const any: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '[::1]' };
  const name = any[host] ?? (host.includes(':') ? `[${host}]` : host);
  return new URL(`${tlsCertFile === null ? 'http' : 'https'}://${name}:${port}`).origin;
}

/** True when a server there may be the one of these settings: it is on this machine. Pure. */
export function isOwn(origin: string, settings: Settings): boolean {
  const { hostname } = new URL(origin);
  return ['127.0.0.1', 'localhost', '[::1]', new URL(ownOrigin(settings)).hostname].includes(hostname);
}

/** What a server of another machine cannot do without. Pure. */
export function missingCredentials({ apiKey, operator }: Given): UsageError {
  const wanted = [
    ...(apiKey === null ? ['an API key (--api-key-file or API_KEY)'] : []),
    ...(operator === null ? ['an operator (--email, or ADMIN_EMAIL and ADMIN_PASSWORD)'] : []),
  ];
  return new UsageError(`a server of another machine needs ${wanted.join(' and ')}`);
}

async function readGiven(options: SimulateOptions, settings: Settings, { terminal }: CommandContext): Promise<Given> {
  const { adminEmail, adminPassword } = settings;
  const apiKey = options.apiKeyFile === null ? settings.apiKey : await readKeyFile(options.apiKeyFile);
  if (options.email !== null) {
    if (!options.passwordStdin && !terminal.interactive)
      throw new UsageError('--email needs a terminal to ask for the password, or --password-stdin');
    const password = options.passwordStdin
      ? await terminal.readLine()
      : await terminal.askSecret(`Password of ${options.email}: `);
    return { apiKey, operator: { email: options.email, password } };
  }
  const known = adminEmail !== null && adminPassword !== null;
  return { apiKey, operator: known ? { email: adminEmail, password: adminPassword } : null };
}

async function readKeyFile(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new UsageError(`--api-key-file cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  });
  const key = text.trim();
  if (key === '' || key.length > MOST_KEY_BYTES || !/^[\x21-\x7E]+$/.test(key))
    throw new UsageError('--api-key-file must hold one API key and nothing else');
  return key;
}

/** One request, without any credential but the key. */
async function ask(origin: string, path: string, apiKey?: string): Promise<number> {
  const pool = createHttpPool({ origin, connections: 1, timeoutMs: PATIENCE_MS });
  try {
    const headers: Record<string, string> = apiKey === undefined ? {} : { 'x-api-key': apiKey };
    return (await request(pool, origin, { method: 'GET', path, headers })).status;
  } finally {
    pool.close();
  }
}

async function requireServer(origin: string): Promise<void> {
  const status = await ask(origin, '/health/live');
  if (status !== 200)
    throw new FleetError('server-refused', `what answers at ${origin} is no Tocsin server (/health/live: ${status})`);
}

/** Only what was not given is made. */
async function makeTemporary(origin: string, given: Given, context: CommandContext): Promise<Access> {
  // A signal must not end the process between making and remembering: the command answers it.
  const quiet: CommandContext = { ...context, events: { on: () => undefined, off: () => undefined } };
  const name = `simulate-${randomBytes(6).toString('hex')}`;
  const wanted = { apiKey: given.apiKey === null, operator: given.operator === null };
  const made = await withIdentity(quiet, (identity) => makeTemporaryAccess(identity, name, wanted));
  const remove = (): Promise<void> => withIdentity(quiet, (identity) => removeTemporaryAccess(identity, made));
  const apiKey = given.apiKey ?? made.apiKey?.key ?? '';
  try {
    await requireKey(origin, apiKey);
  } catch (error) {
    await remove();
    throw error;
  }
  const what = [...(wanted.apiKey ? ['an API key'] : []), ...(wanted.operator ? ['an operator'] : [])];
  const { email, password } = given.operator ?? made.operator ?? { email: '', password: '' };
  return { origin, apiKey, email, password, temporary: `${what.join(' and ')} called ${name}`, remove };
}

/** A running server hears of a new key within a second; one that never does is another installation. */
async function requireKey(origin: string, apiKey: string): Promise<void> {
  for (const until = performance.now() + PATIENCE_MS; ; ) {
    const status = await ask(origin, '/statistics', apiKey);
    if (status !== 401) return;
    if (performance.now() > until)
      throw new FleetError(
        'server-refused',
        `the server at ${origin} does not work on the store of these settings (DATA_DIR or DATABASE_URL): ` +
          'start this command with the same ones, or give an API key and an operator',
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
