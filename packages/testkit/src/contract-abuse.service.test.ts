/** Peers that mean harm, and a store that freezes: the server answers, keeps its memory and loses nothing. */
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, expectRefusal, openRaw, type Reply } from './contract-client.suite.ts';
import { createDevice, type ScriptedDevice } from './device.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

let folder: string;
let server: ServerProcess;
let token: string;
const devices: ScriptedDevice[] = [];
const key = CREDENTIALS.apiKey;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tocsin-abuse-'));
  await chmod(folder, 0o755);
  const limits = {
    RATE_LIMIT_PER_KEY: '100000',
    RATE_LIMIT_BURST: '200000',
    RATE_LIMIT_PER_DEVICE: '10000',
    LOG_LEVEL: 'warn',
  };
  server = startServer(folder, await freePort(), limits);
  await server.ready();
  token = await signIn(server.base);
  for (let i = 0; i < 20; i += 1) {
    const device = createDevice(`d${i}`);
    const body = { id: device.id, profile: 'seismic', publicKey: device.publicKeyPem };
    expect((await ask(`${server.base}/v1/devices`, { method: 'POST', token, body })).status).toBe(201);
    devices.push(device);
  }
});
afterAll(async () => {
  server?.child.kill('SIGTERM');
  expect(await server?.exited).toBe(0);
  await rm(folder, { recursive: true, force: true });
});

/** Resident memory of the server, MiB. */
function memory(): number {
  const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) / 1024;
}

async function answersQuickly(): Promise<void> {
  const began = performance.now();
  expect((await ask(`${server.base}/health/live`)).status).toBe(200);
  expect(performance.now() - began).toBeLessThan(3000);
}

function send(device: ScriptedDevice, id: string, readings: readonly unknown[], agent?: Agent): Promise<Reply> {
  const headers = { 'content-type': 'application/jose', 'x-api-key': key };
  const body = device.seal(id, { readings });
  return ask(`${server.base}/v1/readings`, {
    method: 'POST',
    headers,
    body,
    timeoutMs: 20_000,
    ...(agent === undefined ? {} : { agent }),
  });
}

/** The private PostgreSQL: its first process and all that it has started. */
async function postgres(): Promise<number[]> {
  const first = Number((await readFile(`${folder}/data/postgres/postmaster.pid`, 'utf8')).split('\n')[0]);
  const children = readdirSync('/proc').filter((name) => {
    try {
      return (
        /^\d+$/.test(name) && Number(readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]) === first
      );
    } catch {
      return false;
    }
  });
  return [first, ...children.map(Number)];
}

const linux = process.platform === 'linux';

describe.runIf(linux)('a store that freezes', () => {
  test('posts are answered 503 with Retry-After in bounded time, memory stays, and every 202 is stored', {
    timeout: 90_000,
  }, async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 200 });
    const settled = new Map<string, number>();
    const accepted = new Map<string, number>();
    const slowest = { ms: 0 };
    const statuses: Record<number, number> = {};
    const at = Date.now() - 100_000;
    let serial = 0;
    let going = true;
    const pump = async (device: ScriptedDevice): Promise<void> => {
      while (going) {
        const id = `f${(serial += 1)}`;
        const began = performance.now();
        const reply = await send(device, id, [{ at, value: 1 }], agent);
        slowest.ms = Math.max(slowest.ms, performance.now() - began);
        statuses[reply.status] = (statuses[reply.status] ?? 0) + 1;
        settled.set(`${device.id} ${id}`, reply.status);
        if (reply.status === 503) expectRefusal(reply, 503);
        if (reply.status === 202) accepted.set(device.id, (accepted.get(device.id) ?? 0) + 1);
      }
    };
    const pumps = Array.from({ length: 5 }, () => devices.map(pump)).flat();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const before = memory();
    const pids = await postgres();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      const froze = performance.now();
      const ready = await ask(`${server.base}/health/ready`, { timeoutMs: 8000 });
      expectRefusal(ready, 503);
      await answersQuickly();
      expectRefusal(await ask(`${server.base}/v1/readings`, { method: 'POST', body: 'x' }), 415);
      expectRefusal(
        await ask(`${server.base}/v1/readings`, {
          method: 'POST',
          body: 'x',
          headers: { 'content-type': 'application/jose' },
        }),
        401,
      );
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 8000 - (performance.now() - froze))));
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
    going = false;
    await Promise.all(pumps);
    expect(
      Object.keys(statuses)
        .map(Number)
        .filter((status) => status !== 202 && status !== 503),
    ).toEqual([]);
    expect(statuses[503]).toBeGreaterThan(0);
    expect(statuses[202]).toBeGreaterThan(0);
    expect(slowest.ms).toBeLessThan(7000);
    expect(memory() - before).toBeLessThan(150);
    await server.ready();

    let unknown = 0;
    for (const [name, status] of settled) {
      if (status === 202) continue;
      const [deviceId = '', id = ''] = name.split(' ');
      const device = devices.find((one) => one.id === deviceId);
      if (device === undefined) throw new Error('no such device');
      const again = await send(device, id, [{ at, value: 1 }], agent);
      expect([202, 409]).toContain(again.status);
      if (again.status === 409) expect(again.json.code).toBe('replay');
      accepted.set(deviceId, (accepted.get(deviceId) ?? 0) + 1);
      unknown += 1;
    }
    expect(unknown).toBe(statuses[503]);
    agent.destroy();
    for (const device of devices) {
      const path = `${server.base}/v1/devices/${device.id}/statistics`;
      const until = performance.now() + 10_000;
      let count = -1;
      while (count !== accepted.get(device.id) && performance.now() < until)
        count = (await ask(path, { token })).json.count;
      expect([device.id, count]).toEqual([device.id, accepted.get(device.id)]);
    }
  });
});

describe.runIf(linux)('peers that mean harm', () => {
  test('a thousand requests on one connection at once are all answered, in order', async () => {
    const socket = await openRaw(server.base);
    const body = (i: number): string => devices[0]?.seal(`p${i}`, { readings: [{ at: Date.now(), value: i }] }) ?? '';
    const head = `POST /v1/readings HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nContent-Type: application/jose\r\nContent-Length: `;
    const bodies = Array.from({ length: 1000 }, (_, i) => body(i));
    socket.write(bodies.map((text) => `${head}${text.length}\r\n\r\n${text}`).join(''));
    const answers = await socket.answers(1000);
    expect(answers.map(({ status, json }) => [status, json.id])).toEqual(bodies.map((_, i) => [202, `p${i}`]));
    socket.socket.destroy();
  });

  test('aborted uploads and answers that nobody reads leave nothing behind', async () => {
    await answersQuickly();
    const before = memory();
    const head = `POST /v1/readings HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nContent-Type: application/jose\r\n`;
    for (let round = 0; round < 10; round += 1) {
      const sockets = await Promise.all(Array.from({ length: 100 }, () => openRaw(server.base)));
      for (const [i, raw] of sockets.entries()) {
        if (i % 2 === 0) raw.write(`${head}Content-Length: 262144\r\n\r\n${'x'.repeat(200_000)}`);
        else raw.write(`${head}Transfer-Encoding: chunked\r\n\r\n10000\r\n${'x'.repeat(60_000)}`);
      }
      for (const [i, raw] of sockets.entries()) {
        if (i % 3 === 0) raw.socket.resetAndDestroy();
        else raw.socket.destroy();
      }
      await Promise.all(sockets.map((raw) => raw.closed));
    }
    const deaf = await openRaw(server.base);
    deaf.socket.pause();
    for (let i = 0; i < 2000; i += 1) deaf.write('GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n');
    await answersQuickly();
    expect(memory() - before).toBeLessThan(200);
    deaf.socket.destroy();
    await answersQuickly();
  });

  test('a body that goes on after its refusal costs neither the answer nor memory', async () => {
    const raw = await openRaw(server.base);
    const chunk = Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`);
    const pour = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) if (!raw.socket.write(chunk)) await once(raw.socket, 'drain');
    };
    raw.write(
      'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    await pour(500);
    const [reply] = await raw.answers(1);
    if (reply === undefined) throw new Error('the answer was lost');
    expectRefusal(reply, 413, 'body-too-large');
    const before = memory();
    await pour(5000);
    raw.write('0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
    expect((await raw.answers(2))[1]?.status).toBe(200);
    expect(memory() - before).toBeLessThan(150);
    raw.socket.destroy();
  });

  test('slow senders are cut within their times, and others are served meanwhile', { timeout: 60_000 }, async () => {
    const headers = await Promise.all(Array.from({ length: 200 }, () => openRaw(server.base)));
    const bodies = await Promise.all(Array.from({ length: 200 }, () => openRaw(server.base)));
    for (const raw of headers) raw.write('POST /v1/readings HTTP/1.1\r\nHost: a\r\n');
    for (const raw of bodies)
      raw.write(
        `POST /v1/readings HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nContent-Type: application/jose\r\nContent-Length: 1000\r\n\r\n`,
      );
    const refused = await Promise.all(Array.from({ length: 20 }, () => openRaw(server.base)));
    for (const raw of refused)
      raw.write(
        'POST /v1/readings HTTP/1.1\r\nHost: a\r\nContent-Type: application/jose\r\nContent-Length: 500000\r\n\r\n',
      );
    const drip = setInterval(() => {
      for (const raw of refused) raw.write('x');
      for (const raw of headers) raw.write('X-A: b\r\n');
      for (const raw of bodies) raw.write('x');
    }, 500);
    await answersQuickly();
    expect((await send(devices[1] ?? createDevice('none'), 'meanwhile', [{ at: Date.now(), value: 1 }])).status).toBe(
      202,
    );
    const began = performance.now();
    await Promise.all(headers.map((raw) => raw.closed));
    expect(performance.now() - began).toBeLessThan(20_000);
    await Promise.all([...bodies, ...refused].map((raw) => raw.closed));
    expect(performance.now() - began).toBeLessThan(45_000);
    clearInterval(drip);
    for (const raw of [headers[0], bodies[0]])
      expect(raw?.received()).toMatch(/^HTTP\/1.1 408 [^]*urn:tocsin:error:request-timeout/);
  });

  test('ten thousand connections leave room for the next one', { timeout: 60_000 }, async () => {
    const { hostname, port } = new URL(server.base);
    const before = memory();
    const sockets: Socket[] = [];
    for (let i = 0; i < 10_000; i += 500) {
      const more = await Promise.all(
        Array.from(
          { length: 500 },
          () =>
            new Promise<Socket | null>((resolve) => {
              const socket = connect({ host: hostname, port: Number(port) });
              socket.once('connect', () => resolve(socket));
              socket.on('error', () => resolve(null));
            }),
        ),
      );
      sockets.push(...more.filter((socket) => socket !== null));
    }
    expect(sockets.length).toBeGreaterThan(1000);
    await answersQuickly();
    expect(memory() - before).toBeLessThan(400);
    for (const socket of sockets) socket.destroy();
    await answersQuickly();
  });
});
