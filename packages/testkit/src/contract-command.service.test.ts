/** The contract's sections 1 and 8 as a person at a terminal would try them: real processes, exit codes, readable lines. */
import { spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ask } from './contract-client.suite.ts';
import { COMMAND, CREDENTIALS, freePort, type ServerProcess, signIn, startServer } from './server-process.ts';

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the command in `folder` with an environment of its own; ends it after 60 s. */
function tocsin(
  folder: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  input = '',
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env['PATH'] ?? '', ...environment };
    const child = spawn(process.execPath, [COMMAND, ...args], { cwd: folder, env, timeout: 60_000 });
    const [out, err]: [string[], string[]] = [[], []];
    child.stdout.on('data', (part: Buffer) => out.push(part.toString()));
    child.stderr.on('data', (part: Buffer) => err.push(part.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out: out.join(''), err: err.join('') }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

async function openFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-command-'));
  // Open to traverse, so that the cluster stays inside it when this runs as root.
  await chmod(folder, 0o755);
  return folder;
}

/** Lines that a person can read: no stack, no object. */
function expectReadable(text: string): string[] {
  const lines = text.trim().split('\n');
  for (const line of lines) {
    expect(line.length).toBeLessThan(300);
    expect(line).not.toMatch(/^\s+at |\[object |undefined|\{ /);
  }
  return lines;
}

let folder: string;
beforeEach(async () => {
  folder = await openFolder();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('1. settings', () => {
  test('several mistakes are told at once, a readable line for each that names the variable, exit 78', async () => {
    const wrong = {
      PORT: '99999',
      HOST: 'a b',
      ROLES: 'gateway,king',
      DRAIN_SECONDS: 'soon',
      TRUSTED_PROXIES: '10.0.0.0/33',
      LOG_LEVEL: 'loud',
      JWT_CLOCK_SKEW_SECONDS: '31',
      WS_ALLOW_QUERY_TOKEN: 'yes please',
      CPU_ALERT_TH: '101',
      PUBLIC_URL: 'nowhere',
      API_KEY: 'short',
      JWT_ALGORITHM: 'HS256',
      TLS_CERT: '/nothing.pem',
    };
    for (const command of [
      ['serve'],
      ['migrate'],
      ['keys', 'rotate'],
      ['api-keys', 'list'],
      ['users', 'create', '--email', 'a@b.example', '--generate'],
    ]) {
      const { code, err, out } = await tocsin(folder, command, wrong);
      expect([command, code]).toEqual([command, 78]);
      const lines = expectReadable(err);
      for (const name of Object.keys(wrong))
        expect(lines.filter((line) => line.startsWith(`${name} must be `))).toHaveLength(1);
      expect(err + out).not.toContain('short');
    }
  });
  test('the environment wins over .env, and a mistake there is told too', async () => {
    await writeFile(join(folder, '.env'), 'PORT=not-a-port\nSWARM_SENSORS=none\n');
    const { code, err } = await tocsin(folder, ['migrate'], { PORT: '8081' });
    expect(code).toBe(78);
    expect(err).toContain('SWARM_SENSORS must be');
    expect(err).not.toContain('PORT must be');
  });
  test('DATABASE_URL without CLUSTER_SECRET is 78', async () => {
    const { code, err } = await tocsin(folder, ['serve'], {
      DATABASE_URL: 'postgres://nobody:secret-word@127.0.0.1:1/x',
    });
    expect(code).toBe(78);
    expect(expectReadable(err).join()).toContain('CLUSTER_SECRET');
    expect(err).not.toContain('secret-word');
  });
  test('what an operator relies on and cannot have stops the start and says so', async () => {
    const { code, err } = await tocsin(folder, ['serve'], { LOG_BACKEND: 'redis', NODE_ENV: 'production' });
    expect(code).toBe(78);
    expect(err).toContain('LOG_BACKEND');
    expect(err).toContain('GRPC_PORT');
  });
});

describe('8. the command line', () => {
  test('a database that cannot be reached is 69, in one readable line without the password', async () => {
    const environment = {
      DATABASE_URL: `postgres://nobody:secret-word@127.0.0.1:${await freePort()}/x`,
      CLUSTER_SECRET: 'c'.repeat(32),
      MQTT_EMBEDDED_PORT: 'off',
      GRPC_PORT: 'off',
    };
    for (const command of [['serve'], ['migrate'], ['keys', 'rotate'], ['api-keys', 'list']]) {
      const { code, err, out } = await tocsin(folder, command, environment);
      expect([command, code]).toEqual([command, 69]);
      expect(expectReadable(err)).toHaveLength(1);
      expect(err + out).not.toContain('secret-word');
    }
  });
  test.each([
    [['nothing']],
    [['serve', '--fast']],
    [['serve', 'now']],
    [['migrate', '--to', '5']],
    [['keys']],
    [['keys', 'rotate', '--purpose', 'fun']],
    [['api-keys']],
    [['api-keys', 'create']],
    [['api-keys', 'create', '--name', '']],
    [['api-keys', 'create', '--name', 'x', '--scopes', 'everything']],
    [['api-keys', 'revoke']],
    [['users', 'create']],
    [['users', 'create', '--email', 'a@b.example', '--role', 'king']],
    [['users', 'create', '--email', 'a@b.example', '--password', 'on the command line']],
  ])('wrong use is 64 and shows the use: %j', async (args) => {
    const { code, err, out } = await tocsin(folder, args);
    expect(code).toBe(64);
    expect(expectReadable(err).join('\n')).toMatch(/usage: tocsin/);
    expect(out).toBe('');
  });
  test('help and version are 0, on standard output', async () => {
    for (const args of [['--help'], ['help'], ['serve', '--help'], ['--version'], []]) {
      const { code, out, err } = await tocsin(folder, args);
      expect([args, code, err]).toEqual([args, 0, '']);
      expect(out).not.toBe('');
    }
  });
  test('migrate is safe when four start at once on one new DATA_DIR, and leaves nothing running', async () => {
    const environment = { DATA_DIR: join(folder, 'data') };
    const ended = await Promise.all(
      Array.from({ length: 4 }, () => tocsin(folder, ['migrate', '--json'], environment)),
    );
    expect(ended.map(({ code, err }) => [code, err])).toEqual(Array.from({ length: 4 }, () => [0, '']));
    const applied = ended.flatMap(({ out }) => (JSON.parse(out) as { applied: string[] }).applied);
    expect(new Set(applied).size).toBe(applied.length);
    expect(applied.length).toBeGreaterThan(0);
    expect((await tocsin(folder, ['migrate', '--json'], environment)).out).toBe('{"applied":[]}\n');
    await expect(stat(join(folder, 'data/postgres/postmaster.pid'))).rejects.toThrow('ENOENT');
  });
  test('a first start without a terminal writes what it made into a 0600 file, and it works', async () => {
    const server = startServer(folder, await freePort(), { ADMIN_EMAIL: '', ADMIN_PASSWORD: '', API_KEY: '' });
    await server.ready();
    try {
      const file = join(folder, 'data/first-start.txt');
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      const made = Object.fromEntries(
        (await readFile(file, 'utf8'))
          .split('\n')
          .filter((line) => /^[A-Z_]+=/.test(line))
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      );
      expect(Object.keys(made).sort((a, b) => a.localeCompare(b))).toEqual([
        'ADMIN_EMAIL',
        'ADMIN_PASSWORD',
        'API_KEY',
      ]);
      const signedIn = await ask(`${server.base}/v1/auth/login`, {
        method: 'POST',
        body: { email: made['ADMIN_EMAIL'], password: made['ADMIN_PASSWORD'] },
      });
      expect(signedIn.status).toBe(200);
      expect((await ask(`${server.base}/statistics`, { key: made['API_KEY'] ?? '' })).status).toBe(200);
      for (const secret of [made['ADMIN_PASSWORD'], made['API_KEY']]) expect(server.output()).not.toContain(secret);
    } finally {
      server.child.kill('SIGTERM');
      expect(await server.exited).toBe(0);
    }
  });
});

describe('8. beside a running server', () => {
  let home: string;
  let server: ServerProcess;
  let token: string;
  const beside = (...args: string[]): Promise<Ended> => tocsin(home, args, { DATA_DIR: join(home, 'data') });
  beforeAll(async () => {
    home = await openFolder();
    server = startServer(home, await freePort());
    await server.ready();
    token = await signIn(server.base);
  });
  afterAll(async () => {
    server?.child.kill('SIGTERM');
    expect(await server?.exited).toBe(0);
    await rm(home, { recursive: true, force: true });
  });

  /** Asks until the answer is as wanted; a change made beside the server counts within 10 s. */
  async function until(wanted: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + 12_000;
    while (!(await wanted())) {
      expect(performance.now()).toBeLessThan(end);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  test('a second server on the DATA_DIR stops with 78, and the first goes on', async () => {
    const { code, err } = await tocsin(home, ['serve'], {
      DATA_DIR: join(home, 'data'),
      PORT: String(await freePort()),
      MQTT_EMBEDDED_PORT: 'off',
      GRPC_PORT: 'off',
    });
    expect(code).toBe(78);
    expectReadable(err);
    expect((await ask(`${server.base}/health/ready`)).status).toBe(200);
  });
  test('a port in use is 78 in one line', async () => {
    const { code, err } = await tocsin(folder, ['serve'], {
      DATA_DIR: join(folder, 'data'),
      PORT: new URL(server.base).port,
      MQTT_EMBEDDED_PORT: 'off',
      GRPC_PORT: 'off',
    });
    expect(code).toBe(78);
    expect(expectReadable(err).join()).toContain(new URL(server.base).port);
  });
  test('API keys are made, listed and revoked', async () => {
    const made = await beside('api-keys', 'create', '--name', 'a gateway', '--scopes', 'ingest,read', '--json');
    expect(made).toMatchObject({ code: 0, err: '' });
    const { id, key, scopes } = JSON.parse(made.out) as { id: string; key: string; scopes: string[] };
    expect(scopes).toEqual(['ingest', 'read']);
    const status = async (): Promise<number> => (await ask(`${server.base}/statistics`, { key })).status;
    await until(async () => (await status()) === 200);
    const list = await beside('api-keys', 'list', '--json');
    expect(JSON.parse(list.out)).toContainEqual(expect.objectContaining({ id, name: 'a gateway', revokedAt: null }));
    expect(list.out).not.toContain(key);
    expect((await beside('api-keys', 'list')).out).toContain('a gateway');
    expect((await beside('api-keys', 'revoke', id)).code).toBe(0);
    await until(async () => (await status()) === 401);
    expect(await beside('api-keys', 'revoke', id)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^tocsin: .*\n$/),
    });
  });
  test('users are made, with a generated password or one from standard input', async () => {
    const generated = await beside('users', 'create', '--email', 'eva@example.org', '--role', 'operator', '--json');
    const { password } = JSON.parse(generated.out) as { password: string };
    const signInAs = async (email: string, text: string): Promise<number> =>
      (await ask(`${server.base}/v1/auth/login`, { method: 'POST', body: { email, password: text } })).status;
    expect(await signInAs('eva@example.org', password)).toBe(200);
    const given = await tocsin(
      home,
      ['users', 'create', '--email', 'ada@example.org', '--password-stdin', '--json'],
      { DATA_DIR: join(home, 'data') },
      'a pass phrase of hers\n',
    );
    expect(given).toMatchObject({ code: 0, err: '' });
    expect(given.out).not.toContain('pass phrase');
    expect(await signInAs('ada@example.org', 'a pass phrase of hers')).toBe(200);
    expect(await beside('users', 'create', '--email', 'eva@example.org', '--generate')).toMatchObject({
      code: 1,
      out: '',
    });
    expect((await beside('users', 'create', '--email', 'no-address', '--generate')).code).toBe(64);
  });
  test('keys rotate: new tokens are signed by the new key, old ones still count', async () => {
    const kidOf = (text: string): string =>
      (JSON.parse(Buffer.from(text.split('.')[0] ?? '', 'base64url').toString()) as { kid: string }).kid;
    const rotated = await beside('keys', 'rotate', '--json');
    expect(rotated).toMatchObject({ code: 0, err: '' });
    const rows = JSON.parse(rotated.out) as { purpose: string; kid: string }[];
    expect(rows.map(({ purpose }) => purpose)).toEqual(['token', 'alert', 'command']);
    const kids = async (): Promise<string[]> =>
      (await ask(`${server.base}/.well-known/jwks.json`)).json.keys.map((key: { kid: string }) => key.kid);
    const news = rows.find(({ purpose }) => purpose === 'token')?.kid ?? '';
    await until(async () => (await kids()).includes(news));
    expect(await kids()).toContain(kidOf(token));
    await until(async () => kidOf(await signIn(server.base)) === news);
    expect((await ask(`${server.base}/v1/zones`, { token })).status).toBe(200);
    expect((await ask(`${server.base}/v1/zones`, { token: await signIn(server.base) })).status).toBe(200);
  });
  test('migrate beside the server has nothing to do', async () => {
    expect(await beside('migrate', '--json')).toMatchObject({ code: 0, out: '{"applied":[]}\n' });
  });
  test('given credentials add to those that are there', async () => {
    expect((await ask(`${server.base}/statistics`, { key: CREDENTIALS.apiKey })).status).toBe(200);
  });
});
