/** nginx with nchan as a server of the same message to everybody; one worker, as everything else here has one process. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { programPath } from '@tocsin/testkit/machine';
import { freePort } from '@tocsin/testkit/server-process';

/** A running nginx. */
export interface Nchan {
  readonly port: number;
  /** The worker's process id. */
  readonly worker: number;
  publish(text: string): Promise<void>;
  stop(): Promise<void>;
}

const MODULES: readonly string[] = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules', '/usr/share/nginx/modules'];

/** Path of the module, or null where there is none. */
function modulePath(): string | null {
  return MODULES.map((folder) => join(folder, 'ngx_nchan_module.so')).find((path) => existsSync(path)) ?? null;
}

/** True when nginx and nchan are installed. */
export function hasNchan(): boolean {
  return programPath('nginx') !== null && modulePath() !== null;
}

function configuration(folder: string, port: number): string {
  return `
load_module ${modulePath()};
daemon off;
pid ${folder}/pid;
error_log ${folder}/error.log warn;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 19000; multi_accept on; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000;
  nchan_shared_memory_size 128M;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    tcp_nodelay on;
    location = /publish { nchan_publisher; nchan_channel_id alerts; nchan_message_buffer_length 100; }
    location = /alerts { nchan_subscriber websocket; nchan_channel_id alerts; nchan_subscriber_first_message newest; }
  }
}`;
}

/** Starts it. Rejects with its log when it does not come up. */
export async function startNchan(): Promise<Nchan> {
  const folder = mkdtempSync(join(tmpdir(), 'tocsin-nchan-'));
  await chmod(folder, 0o755);
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  await writeFile(file, configuration(folder, port));
  const child = spawn(programPath('nginx') ?? 'nginx', ['-c', file, '-p', folder], { stdio: 'ignore' });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const log = (): Promise<string> => readFile(join(folder, 'error.log'), 'utf8').catch(() => '');
  const until = performance.now() + 5000;
  const workers = async (): Promise<number> => {
    const text = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').catch(() => '');
    return Number(text.trim().split(' ')[0]);
  };
  while ((await workers()) === 0 || !(await listens(port))) {
    if (child.exitCode !== null || performance.now() > until) throw new Error(`nginx does not listen: ${await log()}`);
    await pause(20);
  }
  const worker = await workers();
  // One connection: on several, messages may overtake each other before nchan has them.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    port,
    worker,
    publish: (text) => post(agent, port, text),
    stop: async () => {
      agent.destroy();
      child.kill('SIGTERM');
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function post(agent: Agent, port: number, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'text/json', 'content-length': Buffer.byteLength(text) };
    const sent = request({ host: '127.0.0.1', port, path: '/publish', method: 'POST', agent, headers }, (answer) => {
      answer.resume();
      answer.on('end', () => {
        if ((answer.statusCode ?? 0) < 300) resolve();
        else reject(new Error(`nchan answers ${answer.statusCode}`));
      });
    });
    sent.on('error', reject);
    sent.end(text);
  });
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
