/**
 * The server as its users run it: a process of its own, from the built command, with an environment of its own. For
 * tests that kill, freeze and restart.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { call, postJson } from './device.ts';

/** A running server process. */
export interface ServerProcess {
  readonly base: string;
  readonly child: ChildProcess;
  /** Everything on stdout and stderr so far. */
  output(): string;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** Resolves once `/health/ready` says 200; rejects when the process ends before. */
  ready(timeoutMs?: number): Promise<void>;
}

/** Secrets that tests give to servers, so that they need not read a terminal. */
export const CREDENTIALS: { readonly email: string; readonly password: string; readonly apiKey: string } = {
  email: 'admin@example.org',
  password: randomBytes(18).toString('base64url'),
  apiKey: `tsk_${randomBytes(24).toString('base64url')}`,
};

/** The built command. */
export const COMMAND: string = findCommand();

function findCommand(): string {
  for (let folder = new URL('.', import.meta.url); folder.pathname !== '/'; folder = new URL('..', folder)) {
    const file = new URL('packages/server/dist/bin/tocsin.js', folder);
    if (existsSync(new URL('packages/server/package.json', folder))) return fileURLToPath(file);
  }
  throw new Error('the checkout was not found');
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address === null || typeof address === 'string' ? reject(new Error('no port')) : resolve(address.port),
      );
    });
  });
}

/**
 * Starts `tocsin serve` on a data folder. `environment` adds to a clean one, `args` follow the command. With `TLS_CERT` it is
 * spoken to by https: the CA belongs into the `globalAgent` of node:https.
 */
export function startServer(
  dataDir: string,
  port: number,
  environment: Readonly<Record<string, string>> = {},
  args: readonly string[] = [],
): ServerProcess {
  const child = spawn(process.execPath, [COMMAND, 'serve', ...args], {
    cwd: dataDir,
    env: {
      PATH: process.env['PATH'] ?? '',
      DATA_DIR: `${dataDir}/data`,
      PORT: String(port),
      MQTT_EMBEDDED_PORT: 'off',
      GRPC_PORT: 'off',
      ADMIN_EMAIL: CREDENTIALS.email,
      ADMIN_PASSWORD: CREDENTIALS.password,
      API_KEY: CREDENTIALS.apiKey,
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  const collect = (chunk: Buffer): void => {
    text = (text + chunk.toString('utf8')).slice(-200_000);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  let over = false;
  const exited = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => {
      over = true;
      resolve(code ?? signal ?? 'gone');
    });
  });
  const base = `${environment['TLS_CERT'] === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  const ready = async (timeoutMs = 60_000): Promise<void> => {
    const until = Date.now() + timeoutMs;
    while (Date.now() < until) {
      if (over) throw new Error(`the server ended (${await exited}):\n${text}`);
      const status = await call(`${base}/health/ready`, { timeoutMs: 2000 }).then(
        (answer) => answer.status,
        () => 0,
      );
      if (status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`the server was not ready in ${timeoutMs} ms:\n${text}`);
  };
  return { base, child, output: () => text, exited, ready };
}

/** Signs the first operator in; answers the access token. */
export async function signIn(base: string): Promise<string> {
  const answer = await postJson(`${base}/v1/auth/login`, { email: CREDENTIALS.email, password: CREDENTIALS.password });
  const token = answer.body?.['access_token'];
  if (typeof token !== 'string') throw new Error(`sign-in failed: ${answer.status} ${JSON.stringify(answer.body)}`);
  return token;
}
