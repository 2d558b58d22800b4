/**
 * nginx and Caddy for tests, run with the examples of `deploy/`: their addresses and paths are replaced, nothing else. A
 * replacement whose text is not in the example is an error, so that the examples stay what is tested.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { TestCertificate } from './certificates.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { checkoutPath, programPath } from './machine.ts';
import { freePort } from './server-process.ts';

/** A running proxy. */
export interface WebProxy {
  /** `https://127.0.0.1:<port>`. */
  readonly base: string;
  /** Port of plain http, where it only redirects. */
  readonly httpPort: number;
  /** Puts another certificate in the place of the first and has the proxy take it (nginx: a reload). */
  replaceCertificate(certificate: TestCertificate): Promise<void>;
  /** What the program says of its own configuration. */
  checkConfiguration(): Promise<string>;
  /** Everything in all of its logs so far. */
  logs(): string;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

/** What stands behind it. */
export interface WebProxyOptions {
  readonly certificate: TestCertificate;
  /** Ports on 127.0.0.1 of the two servers. */
  readonly ports: readonly [number, number];
}

/** How a program is run in a folder. */
interface Program {
  readonly name: 'nginx' | 'caddy';
  readonly example: string;
  /** What is replaced in the example, given `folder`, ports of https and http. */
  readonly changes: (folder: string, https: number, http: number) => readonly (readonly [string, string])[];
  readonly run: (folder: string) => readonly string[];
  readonly check: (folder: string) => readonly string[];
  readonly reload: (folder: string, child: ChildProcess) => Promise<unknown>;
}

const START_MS = 15_000;
const execute = promisify(execFile);
const CONFIG = 'example.conf';

/** The folders that Debian's nginx would use as root. */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

const nginxArgs = (folder: string): string[] => [
  '-p',
  folder,
  '-c',
  join(folder, CONFIG),
  '-e',
  join(folder, 'start.log'),
];

const NGINX: Program = {
  name: 'nginx',
  example: 'deploy/nginx/nginx.conf',
  changes: (folder, https, http) => [
    ['pid /run/nginx.pid;', `pid ${folder}/nginx.pid; daemon off;`],
    ['worker_processes auto;', 'worker_processes 2;'],
    // What this machine may not allow.
    ['worker_rlimit_nofile 131072;', ''],
    ['worker_connections 65536;', 'worker_connections 512;'],
    ['/var/log/nginx/tocsin-error.log', `${folder}/error.log`],
    ['/var/log/nginx/tocsin.log', `${folder}/access.log`],
    ['http {', `http { ${TEMPORARY.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}`],
    ['listen 80;', `listen 127.0.0.1:${http};`],
    ['listen 443 ssl http2;', `listen 127.0.0.1:${https} ssl http2;`],
    ['/etc/nginx/tocsin/tls.crt', `${folder}/tls.crt`],
    ['/etc/nginx/tocsin/tls.key', `${folder}/tls.key`],
  ],
  run: nginxArgs,
  check: (folder) => ['-t', ...nginxArgs(folder)],
  reload: (folder) => execute(programPath('nginx') ?? '', [...nginxArgs(folder), '-s', 'reload']),
};

const caddyArgs = (folder: string): string[] => ['--adapter', 'caddyfile', '--config', join(folder, CONFIG)];

const CADDY: Program = {
  name: 'caddy',
  example: 'deploy/caddy/Caddyfile',
  changes: (folder, https, http) => [
    [
      '{\n\t# Errors',
      `{\n\tadmin off\n\thttp_port ${http}\n\thttps_port ${https}\n\tdefault_bind 127.0.0.1\n\t# Errors`,
    ],
    ['tocsin.example.org {', `https://127.0.0.1:${https}, https://tocsin.example.org:${https} {`],
    ['/var/log/caddy/tocsin.log', `${folder}/access.log`],
    ['/etc/caddy/tocsin/tls.crt', `${folder}/tls.crt`],
    ['/etc/caddy/tocsin/tls.key', `${folder}/tls.key`],
  ],
  run: (folder) => ['run', ...caddyArgs(folder)],
  check: (folder) => ['validate', ...caddyArgs(folder)],
  reload: () => Promise.reject(new Error('Caddy without its admin port reads certificates at its start only')),
};

/** Starts nginx with the example. Rejects with its logs when it does not listen. */
export function startNginx(options: WebProxyOptions): Promise<WebProxy> {
  return start(NGINX, options);
}

/** Starts Caddy with the example, in a home of its own, without certificates and ports but ours. */
export function startCaddy(options: WebProxyOptions): Promise<WebProxy> {
  return start(CADDY, options);
}

function exampleWith(example: string, changes: readonly (readonly [string, string])[]): string {
  let text = readFileSync(checkoutPath(...example.split('/')), 'utf8');
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${example} does not hold "${from}"`);
    text = text.replaceAll(from, to);
  }
  return text;
}

async function start(program: Program, { certificate, ports }: WebProxyOptions): Promise<WebProxy> {
  const path = programPath(program.name);
  if (path === null) throw new Error(`${program.name} is not installed`);
  const folder = guardedFolder(`tocsin-${program.name}-`);
  // Started by root, its workers are somebody else.
  chmodSync(folder, 0o755);
  const [https, http] = [await freePort(), await freePort()];
  const servers = ['10.0.0.11:8080', '10.0.0.12:8080'].map(
    (from, index) => [from, `127.0.0.1:${ports[index]}`] as const,
  );
  writeFileSync(
    join(folder, CONFIG),
    exampleWith(program.example, [...servers, ...program.changes(folder, https, http)]),
  );
  const put = ({ certFile, keyFile }: TestCertificate): void => {
    copyFileSync(certFile, join(folder, 'tls.crt'));
    copyFileSync(keyFile, join(folder, 'tls.key'));
  };
  put(certificate);
  const environment = { PATH: process.env['PATH'], HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  const child = spawn(path, program.run(folder), { cwd: folder, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  guardChild(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const logs = (): string =>
    [
      said,
      ...readdirSync(folder).flatMap((name) => (name.endsWith('.log') ? readFileSync(join(folder, name), 'utf8') : [])),
    ].join('\n');
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await exited;
    }
    rmSync(folder, { recursive: true, force: true });
    folderRemoved(folder);
  };
  const deadline = performance.now() + START_MS;
  while (!(await listens(https))) {
    if (child.exitCode === null && performance.now() < deadline) {
      await pause(20);
      continue;
    }
    const told = logs();
    await stop();
    throw new Error(`${program.name} does not listen:\n${told}`);
  }
  return {
    base: `https://127.0.0.1:${https}`,
    httpPort: http,
    logs,
    stop,
    async replaceCertificate(next) {
      put(next);
      await program.reload(folder, child);
    },
    async checkConfiguration() {
      const { stdout, stderr } = await execute(path, [...program.check(folder)], { cwd: folder, env: environment });
      return stdout + stderr;
    },
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (open: boolean) => (): void => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', end(true)).once('error', end(false));
  });
}
