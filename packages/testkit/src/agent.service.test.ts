/** `tocsin agent` as a process, against a real broker and a real server: shapes, deaths on both sides, refusals, exits. */
import { createPublicKey, verify } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AgentProcess, startAgent } from './agent-process.ts';
import { createAuthority, LOCAL_NAMES } from './certificates.ts';
import { call, postJson } from './device.ts';
import { type MosquittoServer, passwordLines, startMosquitto } from './mosquitto-server.ts';
import { describeWith } from './needs.ts';
import { startProxy } from './proxy.ts';
import { freePort } from './server-process.ts';
import { startTestApp } from './test-app.ts';

const ends: (() => unknown)[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-agent-'));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
});

interface Heard {
  readonly topic: string;
  readonly text: string;
}

async function broker(lines?: (where: string) => readonly string[]): Promise<MosquittoServer> {
  const started = await startMosquitto(lines);
  ends.push(() => started.stop());
  return started;
}

async function subscribe(port: number, heard: Heard[], more: object = {}): Promise<void> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0, ...more });
  client.on('error', () => undefined);
  client.on('message', (topic, payload) => heard.push({ topic, text: payload.toString('utf8') }));
  await client.subscribeAsync('devices/#', { qos: 0 });
  ends.push(() => client.end(true));
}

function agent(args: readonly string[], environment: Readonly<Record<string, string>> = {}): AgentProcess {
  const started = startAgent(['--id', 'h1', '--folder', join(folder, 'agent'), '--disk', folder, ...args], environment);
  ends.push(async () => {
    started.signal('SIGKILL');
    await started.exited;
  });
  return started;
}

async function until(test: () => boolean): Promise<void> {
  for (let turn = 0; turn < 4000 && !test(); turn += 1) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(test()).toBe(true);
}

/** What section 4 of the contract lets a frame be, read strictly. Throws where it is something else. */
function strictFrame({ topic, text }: Heard): Record<string, number | null> & { timestamp: number } {
  const [, id = ''] = /^devices\/([A-Za-z0-9._-]{1,64})\/metrics$/.exec(topic) ?? [];
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(16_384);
  const frame = JSON.parse(text) as Record<string, unknown>;
  const within = (name: string, most: number, nullable: boolean): void => {
    const value = frame[name];
    if (nullable && (value === null || value === undefined)) return;
    expect(typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= most, name).toBe(true);
  };
  expect(frame['device_id']).toBe(id);
  expect(Number.isSafeInteger(frame['timestamp']) && (frame['timestamp'] as number) >= 0).toBe(true);
  for (const name of ['cpu_percent', 'mem_percent', 'disk_percent']) within(name, 100, false);
  within('gpu_percent', 100, true);
  within('agent_cpu_percent', 1000, true);
  within('agent_mem_mb', Infinity, true);
  const known = ['device_id', 'timestamp', 'cpu_percent', 'mem_percent', 'disk_percent'];
  known.push('gpu_percent', 'agent_cpu_percent', 'agent_mem_mb');
  expect(Object.keys(frame).filter((name) => !known.includes(name))).toEqual([]);
  return frame as ReturnType<typeof strictFrame>;
}

/** First arrivals, in their order. */
function unique(heard: readonly Heard[]): string[] {
  return [...new Set(heard.map(({ text }) => text))];
}

function seconds(texts: readonly string[]): number[] {
  return texts.map((text) => (JSON.parse(text) as { timestamp: number }).timestamp);
}

/** The moments of all frames that the outbox holds, settled or not: seconds, in the order of writing. */
function written(): number[] {
  const where = join(folder, 'agent');
  if (!existsSync(where)) return [];
  return readdirSync(where)
    .filter((name) => name.endsWith('.log'))
    .toSorted()
    .flatMap((name) => [...readFileSync(join(where, name), 'latin1').matchAll(/"at":(\d+)/g)])
    .map(([, at]) => Math.floor(Number(at) / 1000));
}

describeWith(['mosquitto'], 'an agent', () => {
  it('reports real numbers of this machine in frames of section 4, and ends with 0 when it is told to', async () => {
    const { port } = await broker();
    const heard: Heard[] = [];
    await subscribe(port, heard);
    const running = agent(['--server', `mqtt://127.0.0.1:${port}`, '--interval', '1']);
    await until(() => heard.length >= 3);
    running.signal('SIGTERM');
    expect(await running.exited).toBe(0);
    const frames = heard.map(strictFrame);
    for (const frame of frames) {
      expect(frame['mem_percent']).toBeGreaterThan(0);
      expect(frame['disk_percent']).toBeGreaterThan(0);
      expect(frame['agent_mem_mb']).toBeGreaterThan(10);
    }
    expect(Math.abs((frames[0]?.timestamp ?? 0) - Date.now() / 1000)).toBeLessThan(60);
    expect(running.news().map(({ news }) => news)).toEqual(['started', 'delivering', 'stopped']);
    expect(running.news().at(-1)).toMatchObject({ delivered: heard.length, queued: 0, dropped: 0 });
  });

  it('loses no frame and keeps their order though the broker is killed for a while, twice', async () => {
    const server = await broker();
    // By way of a proxy, so that after a restart the subscriber is there first.
    const proxy = await startProxy({ port: server.port });
    ends.push(() => proxy.stop());
    const heard: Heard[] = [];
    await subscribe(server.port, heard);
    const running = agent(['--server', `mqtt://127.0.0.1:${proxy.port}`, '--interval', '1']);
    for (let kills = 1; kills <= 2; kills += 1) {
      const [before, kept] = [heard.length, written().length];
      await until(() => heard.length >= before + 2);
      await server.kill();
      proxy.cut();
      await until(() => written().length >= kept + 5);
      await server.restart();
      await subscribe(server.port, heard);
      proxy.heal();
    }
    const count = heard.length;
    await until(() => heard.length > count + 4);
    running.signal('SIGTERM');
    expect(await running.exited).toBe(0);
    const frames = unique(heard);
    heard.forEach(strictFrame);
    expect(running.news().at(-1)).toMatchObject({ news: 'stopped', delivered: frames.length, queued: 0, dropped: 0 });
    const times = seconds(frames);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    // One second after the other: a machine under load may be late, none is left out.
    expect(times.length).toBeGreaterThanOrEqual((times.at(-1) ?? 0) - (times[0] ?? 0) - 2);
  });

  it('has lost nothing that was written when it is killed with -9 and started again', async () => {
    const server = await broker();
    await server.kill();
    const args = ['--server', `mqtt://127.0.0.1:${server.port}`, '--interval', '1'];
    const first = agent(args);
    await until(() => written().length >= 4);
    first.signal('SIGKILL');
    expect(await first.exited).toBe('SIGKILL');
    const kept = written();
    await server.restart();
    const heard: Heard[] = [];
    await subscribe(server.port, heard);
    const second = agent(args);
    await until(() => unique(heard).length > kept.length);
    expect(seconds(unique(heard)).slice(0, kept.length)).toEqual(kept);
    second.signal('SIGTERM');
    expect(await second.exited).toBe(0);
  });

  it('says in a readable line that the password is wrong, never the password, and delivers once it is right', async () => {
    const { port } = await broker((where) => passwordLines(where, 'h1', 'right-secret'));
    const server = ['--server', `mqtt://127.0.0.1:${port}`, '--interval', '1'];
    const wrong = agent(server, { TOCSIN_AGENT_PASSWORD: 'wrong-secret' });
    expect(await wrong.told('refused')).toMatchObject({ reason: 'broker-refused', queued: 1 });
    await until(() => written().length >= 2);
    wrong.signal('SIGTERM');
    expect(await wrong.exited).toBe(0);
    expect(wrong.output()).not.toContain('wrong-secret');
    const file = join(folder, 'password');
    writeFileSync(file, 'right-secret\n', { mode: 0o600 });
    const right = agent([...server, '--password-file', file]);
    expect(await right.told('delivering')).toBeDefined();
    right.signal('SIGTERM');
    expect(await right.exited).toBe(0);
    expect(right.news().at(-1)).toMatchObject({ queued: 0 });
  });

  it('shows its certificate to a broker that wants one (mTLS), and trusts none but the authority it was given', async () => {
    const authority = createAuthority();
    ends.push(() => authority.remove());
    const own = authority.issue({ subject: '/CN=h1', usage: 'clientAuth' });
    const of = authority.issue({ names: LOCAL_NAMES, usage: 'serverAuth' });
    const { port } = await broker((where) => {
      for (const [name, text] of Object.entries({ 'ca.pem': authority.ca, 'b.pem': of.cert, 'b.key': of.key })) {
        writeFileSync(join(where, name), text);
        chmodSync(join(where, name), 0o644);
      }
      const files = [`certfile ${where}/b.pem`, `keyfile ${where}/b.key`, `cafile ${where}/ca.pem`];
      return [...files, 'require_certificate true', 'use_identity_as_username true', 'allow_anonymous true'];
    });
    const url = ['--server', `mqtts://localhost:${port}`, '--once'];
    const pair = ['--cert', own.certFile, '--client-key', own.keyFile];
    expect(await agent([...url, '--ca', authority.caFile, ...pair]).exited).toBe(0);
    const stranger = agent([...url, ...pair]);
    expect(await stranger.exited).toBe(69);
    expect(stranger.output()).toContain('the certificates do not check');
    expect(await agent([...url, '--ca', authority.caFile]).exited).toBe(69);
    const other = authority.issue({ subject: '/CN=h2', usage: 'clientAuth' });
    const mixed = agent([...url, '--cert', own.certFile, '--client-key', other.keyFile]);
    expect(await mixed.exited).toBe(78);
    expect(mixed.output()).toContain('--client-key must be the private key of --cert');
  });

  it('signs with its key when it is told to; --show-key prints the public half', async () => {
    const { port } = await broker();
    const heard: Heard[] = [];
    await subscribe(port, heard);
    expect(await agent(['--server', `mqtt://127.0.0.1:${port}`, '--once', '--key']).exited).toBe(0);
    await until(() => heard.length === 1);
    const shown = agent(['--show-key']);
    expect(await shown.exited).toBe(0);
    const [{ topic, text } = { topic: '', text: '' }] = heard;
    expect(topic).toBe('devices/h1/readings');
    const [head = '', content = '', signature = ''] = text.split('.');
    const key = { key: createPublicKey(shown.output()), dsaEncoding: 'ieee-p1363' } as const;
    expect(verify('sha256', Buffer.from(`${head}.${content}`), key, Buffer.from(signature, 'base64url'))).toBe(true);
    expect(JSON.parse(Buffer.from(head, 'base64url').toString())).toEqual({ alg: 'ES256', kid: 'h1' });
  });

  it('sends one frame with --once: 0 delivered, 69 and kept while nobody is there, in order with the next run', async () => {
    const server = await broker();
    const heard: Heard[] = [];
    await subscribe(server.port, heard);
    const nobody = agent(['--server', `mqtt://127.0.0.1:${await freePort()}`, '--once']);
    expect(await nobody.exited).toBe(69);
    expect(nobody.output()).toContain('nobody listens there');
    const kept = written();
    expect(kept).toHaveLength(1);
    expect(await agent(['--server', `mqtt://127.0.0.1:${server.port}`, '--once']).exited).toBe(0);
    await until(() => heard.length === 2);
    const [first = 0, second = 0] = seconds(unique(heard));
    expect(first).toBe(kept[0]);
    expect(second).toBeGreaterThan(first);
  });
});

describe('an agent that cannot begin', () => {
  const SERVER = ['--server', 'mqtt://127.0.0.1:1'];

  it.each([
    ['a folder that cannot be made', () => ['--folder', '/dev/null/x'], 78, 'cannot work on /dev/null/x'],
    ['a disk that is not there', () => ['--disk', join(folder, 'gone')], 78, 'gone cannot be asked: ENOENT'],
    ['a password file that is not there', () => ['--password-file', '/nonexistent'], 78, 'cannot be read: ENOENT'],
    ['a CA file that is none', () => ['--ca', '/etc/hostname'], 78, '--ca /etc/hostname holds no certificate'],
    ['a topic prefix that is none', () => ['--topic-prefix', 'a/#'], 64, '--topic-prefix must be'],
    ['a certificate without its key', () => ['--cert', '/x'], 64, '--cert and --client-key go together'],
    ['an id that is none', () => ['--id', 'a b'], 64, '--id must be'],
    ['an interval that is none', () => ['--interval', '0'], 64, '--interval must be'],
  ])('because of %s ends with a readable line and the code for it', async (_, args, code, line) => {
    const failed = agent([...SERVER, ...args()]);
    expect(await failed.exited).toBe(code);
    expect(failed.output()).toContain(line);
    expect(failed.output()).not.toContain('    at ');
  });

  it('because another one works on its folder, or it belongs to another host, says so', async () => {
    const first = agent(SERVER);
    await first.told('started');
    const second = agent(SERVER);
    expect(await second.exited).toBe(78);
    expect(second.output()).toContain(`belongs to process ${first.pid}`);
    first.signal('SIGTERM');
    expect(await first.exited).toBe(0);
    const other = agent([...SERVER, '--id', 'h2']);
    expect(await other.exited).toBe(78);
    expect(other.output()).toContain('belongs to the device h1, not to h2');
  });
});

describeWith(['root', 'mosquitto'], 'an agent on a full disk', () => {
  it('says that frames are lost, goes on, and says when they are kept again', async (context) => {
    const mount = mkdtempSync(join(tmpdir(), 'tocsin-full-'));
    ends.push(() => rmSync(mount, { recursive: true, force: true }));
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tocsin-test', mount]).status !== 0)
      return context.skip('mounting is not allowed here');
    ends.push(() => execFileSync('umount', ['-l', mount]));
    const { port } = await broker();
    const args = ['--server', `mqtt://127.0.0.1:${port}`, '--interval', '1', '--folder', join(mount, 'agent')];
    const running = agent(args);
    await running.told('delivering');
    spawnSync('dd', ['if=/dev/zero', `of=${join(mount, 'filler')}`, 'bs=512']);
    expect(await running.told('not-kept')).toMatchObject({ detail: expect.stringContaining('no room for') });
    rmSync(join(mount, 'filler'));
    await running.told('working');
    running.signal('SIGTERM');
    expect(await running.exited).toBe(0);
  });
});

describe('an agent with a Tocsin over HTTP', () => {
  it('waits while it is not registered, says how to mend that, and delivers what it kept once it is', async () => {
    const { base, token, apiKey, stop } = await startTestApp();
    ends.push(stop);
    const options = ['--server', base, '--key', '--interval', '1'];
    const environment = { TOCSIN_AGENT_API_KEY: apiKey };
    const stranger = agent(options, environment);
    expect(await stranger.told('refused')).toMatchObject({ reason: 'device-unknown' });
    stranger.signal('SIGTERM');
    expect(await stranger.exited).toBe(0);
    expect(stranger.output()).not.toContain(apiKey);
    const shown = agent(['--show-key']);
    await shown.exited;
    const body = { id: 'h1', profile: 'host', publicKey: shown.output() };
    expect((await postJson(`${base}/v1/devices`, body, { token })).status).toBe(201);
    const known = agent(options, environment);
    await known.told('delivering');
    await until(() => written().length >= 4);
    known.signal('SIGTERM');
    expect(await known.exited).toBe(0);
    const { delivered } = known.news().at(-1) as unknown as { delivered: number };
    const headers = { authorization: `Bearer ${token}` };
    const count = async (): Promise<unknown> =>
      (await call(`${base}/v1/devices/h1/statistics`, { headers })).body?.['count'];
    await expect.poll(count, { timeout: 20_000 }).toBe(delivered);
    expect(delivered).toBeGreaterThanOrEqual(2);
  });
});
