/** What reaches a real server's store when processes and connections die: exact counts. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { postJson } from '@tocsin/testkit/device';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from '@tocsin/testkit/server-process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from './device.ts';
import { loadOrCreateKey, publicKeyPem } from './key.ts';

/** More by hand: SDK_KILLS=30 npm test -- faults.service */
const KILLS = Number(process.env['SDK_KILLS'] ?? '6');
const BUILT = new URL('../dist/src/device.js', import.meta.url).href;

/**
 * Reports readings whose values count up from argument 4, eight at a time, for ever, and says each value on its standard
 * output once its report has resolved. With `drain` it reports nothing, waits until the outbox is empty and says `done`.
 */
const CHILD = `
import { writeSync } from 'node:fs';
const [server, apiKey, folder, from] = process.argv.slice(1);
const { openDevice } = await import(${JSON.stringify(BUILT)});
const tuning = { backOffFirstMs: 20, backOffMostMs: 200, requestMs: 5000 };
const device = await openDevice({ server, apiKey, id: 'm1', profile: 'seismic', folder, ...tuning });
if (from === 'drain') {
  const empty = await device.flush(60000);
  const { dropped, deadLetters, damaged, replays } = device.status();
  writeSync(1, JSON.stringify({ empty, dropped, deadLetters, damaged, replays }) + '\\n');
  await device.close();
} else {
  let value = Number(from);
  const work = async () => {
    for (;;) {
      const mine = value++;
      await device.report([{ at: device.now(), value: mine }]);
      writeSync(1, mine + '\\n');
    }
  };
  for (let worker = 0; worker < 8; worker += 1) void work();
}
`;

let folder = '';
let database: TestDatabase;
let server: ServerProcess;
let restart: () => Promise<void>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tocsin-sdk-'));
  await chmod(folder, 0o755);
  database = await openTestDatabase();
  const port = await freePort();
  const limits = { RATE_LIMIT_PER_KEY: '100000', RATE_LIMIT_PER_DEVICE: '100000', SWARM_SENSORS: '50' };
  const secret = { DATABASE_URL: database.url, CLUSTER_SECRET: randomBytes(32).toString('base64url') };
  restart = async () => {
    server = startServer(folder, port, { ...limits, ...secret, LOG_LEVEL: 'warn' });
    await server.ready();
  };
  await restart();
});
afterAll(async () => {
  server?.child.kill('SIGKILL');
  await server?.exited;
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Registers a device with the key of its state folder. */
async function register(id: string): Promise<string> {
  const state = await mkdtemp(join(folder, `${id}-`));
  const key = await loadOrCreateKey(join(state, 'key.pem'));
  const token = await signIn(server.base);
  const body = { id, profile: 'seismic', publicKey: publicKeyPem(key) };
  expect((await postJson(`${server.base}/v1/devices`, body, { token })).status).toBe(201);
  return state;
}

/** The values that the store has of a device, once everything accepted has been worked off. */
async function stored(id: string, least: number): Promise<number[]> {
  let rows: { value: number }[] = [];
  for (let turn = 0; turn < 400; turn += 1) {
    rows = await database.db.query<{ value: number }>(
      'SELECT value FROM readings JOIN devices ON devices.number = readings.device WHERE devices.id = $1',
      [id],
    );
    if (rows.length >= least) break;
    await pause(25);
  }
  return rows.map(({ value }) => value).toSorted((a, b) => a - b);
}

function startChild(state: string, from: number | 'drain'): ChildProcess {
  const args = ['--input-type=module', '-e', CHILD, server.base, CREDENTIALS.apiKey, state, String(from)];
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
}

function linesOf(child: ChildProcess, line: (text: string) => void): Promise<unknown> {
  if (child.stdout === null) throw new Error('no output');
  const reader = createInterface({ input: child.stdout }).on('line', line);
  return once(reader, 'close');
}

describe('a device whose process is killed again and again', () => {
  it('has every report that resolved in the store exactly once, and nothing twice, though the server dies, too', async () => {
    const state = await register('m1');
    const resolved: number[] = [];
    let next = 1;
    for (let kill = 0; kill < KILLS; kill += 1) {
      const child = startChild(state, next);
      const heard: number[] = [];
      let first: () => void = () => undefined;
      const begun = new Promise<void>((resolve) => (first = resolve));
      const ended = linesOf(child, (text) => {
        heard.push(Number(text));
        first();
      });
      await begun;
      await pause(randomInt(20, 250));
      if (kill === 2) {
        server.child.kill('SIGKILL');
        await server.exited;
        await pause(randomInt(20, 150));
      }
      child.kill('SIGKILL');
      await ended;
      if (kill === 2) await restart();
      resolved.push(...heard);
      // Never the same value again: what was under way may or may not have reached the outbox.
      next = Math.max(...heard) + 100;
    }
    const said: string[] = [];
    const draining = startChild(state, 'drain');
    await linesOf(draining, (text) => said.push(text));
    const report = JSON.parse(said[0] ?? '{}') as Record<string, unknown>;
    expect(report).toMatchObject({ empty: true, dropped: 0, deadLetters: 0, damaged: 0 });
    const found = await stored('m1', resolved.length);
    const distinct = new Set(found);
    process.stderr.write(
      `${JSON.stringify({ kills: KILLS, resolved: resolved.length, stored: found.length, ...report })}\n`,
    );
    expect(found).toHaveLength(distinct.size);
    expect(resolved.filter((value) => !distinct.has(value))).toEqual([]);
    // Beyond these only what was under way at a kill: eight at most each time.
    expect(found.length - resolved.length).toBeLessThanOrEqual(8 * KILLS);
  });
});

describe('a device whose connection is cut', () => {
  it('in the middle of the answer sends again, hears 409 replay, and the reading is stored once', async () => {
    const state = await register('m2');
    const CUTS = 10;
    const cutter = await startCutter(Number(new URL(server.base).port), CUTS);
    const device = await openDevice({
      server: `http://127.0.0.1:${cutter.port}`,
      apiKey: CREDENTIALS.apiKey,
      id: 'm2',
      profile: 'seismic',
      folder: state,
      inFlight: 1,
      backOffFirstMs: 10,
      backOffMostMs: 20,
    });
    for (let value = 1; value <= 30; value += 1) await device.report([{ at: device.now(), value }]);
    expect(await device.flush(60_000)).toBe(true);
    expect(device.status()).toMatchObject({ delivered: 30, replays: CUTS, dropped: 0, deadLetters: 0 });
    expect(await stored('m2', 30)).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
    await device.close();
    await cutter.stop();
  });
});

/** Passes everything, but resets the connection after half of a 202's first line, `cuts` times. */
async function startCutter(port: number, cuts: number): Promise<{ readonly port: number; stop(): Promise<void> }> {
  let left = cuts;
  const listener = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    client.on('error', () => undefined).on('close', () => upstream.destroy());
    upstream.on('error', () => undefined).on('close', () => client.destroy());
    client.pipe(upstream);
    upstream.on('data', (chunk: Buffer) => {
      if (left === 0 || !chunk.toString('latin1').startsWith('HTTP/1.1 202')) return void client.write(chunk);
      left -= 1;
      client.write(chunk.subarray(0, 12), () => client.resetAndDestroy());
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return {
    port: (listener.address() as AddressInfo).port,
    stop: () => new Promise((resolve) => void listener.close(() => resolve())),
  };
}
