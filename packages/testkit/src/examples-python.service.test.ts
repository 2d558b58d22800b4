/** `docs/examples/python`: it agrees with the vectors, and brings every reading to a real server once, whoever is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, postJson } from './device.ts';
import { checkoutPath, pythonPath } from './machine.ts';
import { describeWith } from './needs.ts';
import { type ProgramResult, runProgram } from './program.ts';
import { CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

const SOURCES = checkoutPath('docs/examples/python');
/** Python leaves no compiled files in the checkout. */
const CLEAN = { PYTHONDONTWRITEBYTECODE: '1', PYTHONPATH: SOURCES };
const WIDE = { RATE_LIMIT_PER_DEVICE: '5000', RATE_LIMIT_PER_KEY: '5000' };

/** `send_values.py` while it runs. */
interface Sending {
  readonly child: ChildProcess;
  /** Writes one line for each value. */
  feed(values: readonly number[]): void;
  /** Resolves once `count` lines that begin with `word` are there; rejects when the program ends before. */
  until(word: string, count: number): Promise<void>;
  kill(): Promise<void>;
}

describeWith(['python-cryptography'], 'the client in Python', () => {
  const python = (args: readonly string[], environment = {}): Promise<ProgramResult> =>
    runProgram(pythonPath() ?? 'python3', args, { environment: { ...CLEAN, ...environment } });
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tocsin-python-'));
    // Open to traverse, so that the private PostgreSQL stays inside it when this runs as root.
    chmodSync(folder, 0o755);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('verifies every vector, its own signatures too, and decides as they say', async () => {
    const { code, stdout, stderr } = await python([join(SOURCES, 'check_vectors.py')]);
    expect(stdout).toMatch(/^\d{3,} checks, 0 wrong\n$/);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  test('makes a key that only its owner reads, and never writes over one', async () => {
    const path = join(folder, 'once.pem');
    const make = ['-c', 'import sys, tocsin_device; tocsin_device.make_key(sys.argv[1])', path];
    expect((await python(make)).code).toBe(0);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await python(make)).toMatchObject({ code: 1, stderr: expect.stringContaining('FileExistsError') as string });
  });

  describe('against a server', () => {
    let server: ServerProcess;
    let port: number;
    const start = async (): Promise<void> => {
      mkdirSync(join(folder, 'server'), { recursive: true, mode: 0o755 });
      server = startServer(join(folder, 'server'), port, WIDE);
      await server.ready();
    };
    const stop = async (): Promise<void> => {
      server.child.kill('SIGTERM');
      await server.exited;
    };
    beforeAll(async () => {
      port = await freePort();
      await start();
    });
    afterAll(() => (server === undefined ? undefined : stop()));

    async function openDevice(id: string): Promise<void> {
      const work =
        'import sys; from tocsin_device import *; print(Device("x", make_key(sys.argv[1])).public_key_pem())';
      const { stdout } = await python(['-c', work, join(folder, `${id}.pem`)]);
      const device = { id, profile: 'seismic', publicKey: stdout };
      const made = await postJson(`${server.base}/v1/devices`, device, { token: await signIn(server.base) });
      expect(made.status).toBe(201);
    }

    function startSending(id: string): Sending {
      const files = [join(folder, `${id}.pem`), join(folder, `${id}.db`)] as const;
      const args = [join(SOURCES, 'send_values.py'), `http://127.0.0.1:${port}`, id, ...files];
      const child = spawn(pythonPath() ?? 'python3', args, {
        env: { ...CLEAN, TOCSIN_API_KEY: CREDENTIALS.apiKey },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      child.stdin.on('error', () => undefined);
      const lines = (word: string): number => text.split('\n').filter((line) => line.startsWith(`${word} `)).length;
      return {
        child,
        feed: (values) => void child.stdin.write(values.map((value) => `${value}\n`).join('')),
        until: (word, count) =>
          new Promise((resolve, reject) => {
            const look = (): void => {
              if (lines(word) >= count) resolve();
            };
            child.stdout.on('data', look);
            child.on('close', () => reject(new Error(`it ended after ${lines(word)} of ${count} lines "${word}"`)));
            look();
          }),
        kill: async () => {
          child.kill('SIGKILL');
          await once(child, 'close');
        },
      };
    }

    /** Lets it send what is left; resolves when the outbox is empty. */
    async function finish(id: string): Promise<void> {
      const last = startSending(id);
      last.child.stdin?.end();
      const [code] = (await once(last.child, 'close')) as [number | null];
      expect(code).toBe(0);
    }

    async function statistics(id: string, count: number): Promise<Record<string, unknown> | null> {
      const headers = { authorization: `Bearer ${await signIn(server.base)}` };
      const until = performance.now() + 10_000;
      for (;;) {
        const { body } = await call(`${server.base}/v1/devices/${id}/statistics`, { headers });
        if (body?.['count'] === count || performance.now() > until) return body;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }

    const values = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

    test('a server that was away and a sender that was killed: every reading is stored once', async () => {
      const id = 'python-outage';
      await openDevice(id);
      const first = startSending(id);
      first.feed(values(1, 20));
      await first.until('delivered', 20);
      await stop();
      first.feed(values(21, 100));
      await first.until('queued', 120);
      await first.until('wait', 1);
      await first.kill();
      await start();
      const second = startSending(id);
      second.feed(values(121, 80));
      await second.until('queued', 80);
      await second.until('delivered', 30);
      await second.kill();
      await finish(id);
      expect(await statistics(id, 200)).toMatchObject({ count: 200, min: 1, max: 200, mean: 100.5 });
    });

    test('killed again and again, and its disk put back: nothing is lost and nothing comes twice', async () => {
      const id = 'python-kills';
      await openDevice(id);
      const filling = startSending(id);
      filling.feed(values(1, 150));
      await filling.until('queued', 150);
      await filling.kill();
      const files = readdirSync(folder).filter((name) => name.startsWith(`${id}.db`));
      for (const name of files) copyFileSync(join(folder, name), join(folder, `backup-${name}`));
      for (let round = 0; round < 4; round += 1) {
        const sending = startSending(id);
        await sending.until('delivered', 5 + round * 3);
        await sending.kill();
      }
      await finish(id);
      expect(await statistics(id, 150)).toMatchObject({ count: 150, min: 1, max: 150, mean: 75.5 });
      // The disk is that of before: everything is sent once more, and answered with 409 replay.
      for (const name of files) copyFileSync(join(folder, `backup-${name}`), join(folder, name));
      await finish(id);
      expect(await statistics(id, 150)).toMatchObject({ count: 150, mean: 75.5 });
      const metrics = await fetch(`${server.base}/metrics`).then((answer) => answer.text());
      const replays = Number(/tocsin_rejected_total\{[^}]*reason="replay"[^}]*\} (\d+)/.exec(metrics)?.[1]);
      expect(replays).toBeGreaterThan(50);
    });

    test('a server that is killed while it answers: every reading is stored once', async () => {
      const id = 'python-server-kill';
      await openDevice(id);
      const sending = startSending(id);
      sending.feed(values(1, 150));
      await sending.until('delivered', 20);
      server.child.kill('SIGKILL');
      await server.exited;
      await start();
      sending.child.stdin?.end();
      await once(sending.child, 'close');
      expect(await statistics(id, 150)).toMatchObject({ count: 150, min: 1, max: 150, mean: 75.5 });
    });
  });
});
