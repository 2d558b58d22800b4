/** `docs/examples/c`: it compiles without a warning, agrees with the vectors, and talks to a real server. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { readFixture } from '@tocsin/tools/fixtures/shape';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Contract, fresh, openContract } from './contract-system.suite.ts';
import { checkoutPath, programPath } from './machine.ts';
import { describeWith } from './needs.ts';
import { type ProgramResult, runProgram } from './program.ts';
import { freePort } from './server-process.ts';

const SOURCES = checkoutPath('docs/examples/c');
const VECTORS = readFileSync(checkoutPath('packages/protocol/fixtures/vectors.tsv'), 'utf8');
const HOUR_MS = 3_600_000;

describeWith(['mbedtls'], 'the client in C', () => {
  let folder: string;
  const make = (...args: readonly string[]): Promise<ProgramResult> =>
    runProgram(programPath('make') ?? 'make', ['-C', SOURCES, `OUT=${folder}`, ...args]);
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tocsin-c-'));
    // C99 without a warning, or make ends with an error.
    const built = await make('all');
    expect(built).toMatchObject({ code: 0, stderr: '' });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe('against the vectors', () => {
    const check = (input: string): Promise<ProgramResult> => runProgram(join(folder, 'check_vectors'), [], { input });

    test('signs every one bit for bit, and decides as they say', async () => {
      const { code, stdout } = await check(VECTORS);
      expect(stdout).toMatch(/^\d{4,} checks, 0 wrong\n$/);
      expect(code).toBe(0);
    });

    test('finds a vector that is not right, and a kind that is missing', async () => {
      const other = VECTORS.replace('\tset-aside\t', '\twait\t');
      expect(await check(other)).toMatchObject({ code: 1, stdout: expect.stringContaining(', 1 wrong') as string });
      const fewer = VECTORS.replaceAll(/^clock\t.*\n/gm, '');
      expect(await check(fewer)).toMatchObject({ code: 1, stdout: expect.stringContaining('kind clock') as string });
      expect((await check('')).code).toBe(1);
    });

    test('touches no memory that is not its own (address and undefined behaviour sanitizers)', async () => {
      const flags = 'CFLAGS=-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all';
      const { code, stdout, stderr } = await make('check', flags, `OUT=${join(folder, 'sanitized')}`);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain(' checks, 0 wrong\n');
    });
  });

  describe('against a server', () => {
    let contract: Contract;
    beforeAll(async () => {
      contract = await openContract();
    });
    afterAll(() => contract?.app.stop());

    /** Registers a device with the first key of the vectors; answers its id. */
    async function openDevice(): Promise<string> {
      const id = fresh('c');
      const key = readFixture('keys').keys.find(({ name }) => name === 'first');
      const made = await contract.admin('POST', '/v1/devices', { id, profile: 'seismic', publicKey: key?.pointHex });
      expect(made.status).toBe(201);
      writeFileSync(join(folder, 'key'), `${key?.scalar}\n`, { mode: 0o600 });
      return id;
    }

    /** Posts one trigger of 1.250 with the program; answers how it ended and what it printed. */
    async function post(id: string, options: readonly string[] = [], url = contract.app.base): Promise<object> {
      const args = [url, id, join(folder, 'key'), 'envelope-1', '1250', ...options];
      const environment = { TOCSIN_API_KEY: contract.app.apiKey };
      const { code, stdout, stderr } = await runProgram(join(folder, 'post'), args, { environment });
      expect(stderr).toBe('');
      return [code, ...stdout.trimEnd().split('\n')];
    }

    test('a reading arrives as it was measured', async () => {
      const id = await openDevice();
      expect(await post(id)).toEqual([0, '202 - delivered']);
      const { json } = await contract.counted(`/v1/devices/${id}/statistics`, 1);
      expect(json).toMatchObject({ count: 1, mean: 1.25 });
    });

    test('an id that belongs to another reading is set aside', async () => {
      const id = await openDevice();
      expect(await post(id)).toEqual([0, '202 - delivered']);
      expect(await post(id)).toEqual([1, '409 id-conflict set-aside']);
    });

    test('a clock that is an hour behind is set by the answer, and the same envelope signed again', async () => {
      const behind = ['--blind', '--clock-error', String(-HOUR_MS)];
      expect(await post(await openDevice(), behind)).toEqual([0, '403 envelope-stale resign', '202 - delivered']);
    });

    test('a clock that was not set has to ask first: a reading of tomorrow is no reading', async () => {
      const id = await openDevice();
      const ahead = ['--clock-error', String(24 * HOUR_MS)];
      expect(await post(id, ['--blind', ...ahead])).toEqual([1, '422 schema set-aside']);
      expect(await post(id, ahead)).toEqual([0, '202 - delivered']);
    });

    test('a clock that begins in 1970 signs nothing until it has asked', async () => {
      const id = await openDevice();
      const never = ['--clock-error', String(5000 - Date.now())];
      expect(await post(id, ['--blind', ...never])).toEqual([64, '']);
      expect(await post(id, never)).toEqual([0, '202 - delivered']);
    });

    test('an API key that the server does not know is held, and printed nowhere', async () => {
      const args = [contract.app.base, await openDevice(), join(folder, 'key'), 'envelope-1', '1'];
      const environment = { TOCSIN_API_KEY: 'tsk_never-heard-of' };
      const answer = await runProgram(join(folder, 'post'), args, { environment });
      expect(answer).toEqual({ code: 1, stdout: '401 api-key-unknown hold\n', stderr: '' });
    });

    test('a server that is not there is tried again, as often as was said', async () => {
      const nobody = `http://127.0.0.1:${await freePort()}`;
      expect(await post(await openDevice(), ['--tries', '2'], nobody)).toEqual([2, '0 - wait', '0 - wait']);
    });

    test('over TLS it talks to the holder of the certificate only', async () => {
      const id = await openDevice();
      const [right, wrong] = [makeCertificate(folder, 'right'), makeCertificate(folder, 'wrong')];
      const { url, close } = await startTls(right, Number(new URL(contract.app.base).port));
      try {
        expect(await post(id, ['--ca', wrong.cert, '--tries', '1'], url)).toEqual([2, '0 - wait']);
        expect(await post(id, ['--ca', right.cert], url)).toEqual([0, '202 - delivered']);
      } finally {
        close();
      }
    });
  });
});

interface Certificate {
  readonly cert: string;
  readonly key: string;
}

function makeCertificate(folder: string, name: string): Certificate {
  const files = { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) };
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', files.key];
  const args = ['req', '-x509', ...curve, '-out', files.cert, '-days', '2', '-subj', '/CN=localhost'];
  execFileSync('openssl', [...args, '-addext', 'subjectAltName=DNS:localhost'], { stdio: 'ignore' });
  return files;
}

/** What ends TLS in front of a port of this machine. */
async function startTls({ cert, key }: Certificate, port: number): Promise<{ url: string; close(): void }> {
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (outer) => {
    const inner = connect(port, '127.0.0.1');
    for (const [one, other] of [
      [outer, inner],
      [inner, outer],
    ] as const) {
      one.on('error', () => other.destroy());
      one.pipe(other);
    }
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}
