import { EventEmitter } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestDatabase, openTestDatabase } from '@tocsin/testkit/database';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPasswords } from '../../identity/passwords.ts';
import { silentLogger } from '../../ops/logging.ts';
import { openStore } from '../../store/open.ts';
import { createNotificationStore } from '../../store/postgres/notifications.ts';
import { createUserStore } from '../../store/postgres/users.ts';
import { runCommandLine } from './command-line.ts';
import { scriptedTerminal } from './scripted-terminal.suite.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

type Script = Parameters<typeof scriptedTerminal>[0];

async function run(args: string, script: Script = {}): Promise<{ code: number; out: string; err: string }> {
  const terminal = scriptedTerminal(script);
  const env = { DATABASE_URL: database.url, CLUSTER_SECRET: 'a cluster secret for tests, long enough' };
  const code = await runCommandLine(args.split(' '), { env, cwd: tmpdir(), terminal, events: new EventEmitter() });
  return { code, out: terminal.stdout(), err: terminal.stderr() };
}

async function passwordOf(email: string, password: string): Promise<boolean> {
  const user = await createUserStore(database.db).byEmail(email);
  return (await createPasswords()).verify(user?.passwordHash ?? null, password);
}

describe('commands on a database', () => {
  it('migrate says when there was nothing to do', async () => {
    expect(await run('migrate --json')).toEqual({ code: 0, out: '{"applied":[]}\n', err: '' });
  });

  it('users create makes a person with a generated password, shown once', async () => {
    const { code, out } = await run('users create --email Eva@Example.org --role operator --json');
    expect(code).toBe(0);
    const shown = JSON.parse(out) as Record<string, string>;
    expect(shown).toMatchObject({ email: 'eva@example.org', role: 'operator' });
    expect(await passwordOf('eva@example.org', shown['password'] ?? '')).toBe(true);
  });

  it('users create takes a password from standard input or a prompt, and does not show it', async () => {
    const piped = await run('users create --email pipe@example.org --password-stdin', {
      line: 'a password from a pipe',
    });
    const asked = await run('users create --email ask@example.org', {
      answers: ['a password by hand', 'a password by hand'],
    });
    expect([piped.code, asked.code]).toEqual([0, 0]);
    expect(piped.out + piped.err + asked.out + asked.err).not.toContain('a password');
    expect(await passwordOf('pipe@example.org', 'a password from a pipe')).toBe(true);
    expect(await passwordOf('ask@example.org', 'a password by hand')).toBe(true);
  });

  it('users create refuses passwords that differ or are weak, malformed addresses, and people who exist', async () => {
    expect(
      (await run('users create --email x@example.org', { answers: ['one password here', 'another password'] })).code,
    ).toBe(64);
    expect((await run('users create --email x@example.org --password-stdin', { line: 'short' })).code).toBe(64);
    expect((await run('users create --email nobody')).code).toBe(64);
    expect((await run('users create --email eva@example.org')).code).toBe(1);
  });

  it('api-keys are made, listed and revoked; the key itself is shown once', async () => {
    const made = await run('api-keys create --name gate --scopes ingest,read --json');
    const { id, key, scopes } = JSON.parse(made.out) as { id: string; key: string; scopes: string[] };
    expect(scopes).toEqual(['ingest', 'read']);
    expect((await run('api-keys list')).out).toMatch(new RegExp(`${id} +gate +ingest,read`));
    expect((await run(`api-keys revoke ${id}`)).code).toBe(0);
    expect((await run(`api-keys revoke ${id}`)).code).toBe(1);
    const listed = await run('api-keys list --json');
    expect(JSON.parse(listed.out)).toEqual([expect.objectContaining({ id, revokedAt: expect.any(Number) })]);
    expect(listed.out).not.toContain(key);
  });

  it('keys rotate makes new keys, one for each purpose', async () => {
    const first = JSON.parse((await run('keys rotate --json')).out) as { purpose: string; kid: string }[];
    expect(first.map(({ purpose }) => purpose)).toEqual(['token', 'alert', 'command']);
    const second = JSON.parse((await run('keys rotate --purpose alert --json')).out) as {
      purpose: string;
      kid: string;
    }[];
    expect(second).toHaveLength(1);
    expect(second[0]?.kid).not.toBe(first[1]?.kid);
  });

  it('notifications are listed with what they would not take, which is sent again when it is asked for', async () => {
    expect((await run('notifications list')).out).toContain('there are no destinations');
    const store = createNotificationStore(database.db, 'alerts');
    const hold = await store.claim('slack', 'w', 60_000, false);
    if (hold === null) throw new Error('the destination is held');
    const dead = [1, 2].map(
      (offset) => ({ offset, alertId: 'A', revision: offset, event: 'raised', reason: 'http-404' }) as const,
    );
    await store.advance(hold, { from: 0, to: 2, told: [], dead, lost: 0, answered: true }, 1000);
    const shown = await run('notifications list');
    expect(shown).toMatchObject({ code: 0, err: '' });
    expect(shown.out).toMatch(/^slack +2 +0 +yes +0 +2 +0 +0/m);
    expect(shown.out).toMatch(/^\d+ +slack +A +1 +raised +http-404 +1970-01-01T00:00:01.000Z$/m);
    const listed = async (): Promise<{ id: number; requestedAt: number | null }[]> => {
      const { deadLetters } = JSON.parse((await run('notifications list --json')).out) as {
        deadLetters: { id: number; requestedAt: number | null }[];
      };
      return deadLetters;
    };
    const [newest] = await listed();
    expect(await run(`notifications retry --id ${newest?.id ?? 0} --json`)).toMatchObject({
      code: 0,
      out: '{"requested":1}\n',
    });
    expect((await listed()).map(({ requestedAt }) => requestedAt !== null)).toEqual([true, false]);
    expect((await run('notifications retry --destination email')).code).toBe(1);
    expect((await run('notifications retry --id 1,x')).code).toBe(64);
    expect((await run('notifications retry --destination slack')).out).toBe(
      'dead letters that will be sent again: 1\n',
    );
  });
});

describe('commands on a data folder', () => {
  it('work alone, and beside the server that owns it, which they leave running', async () => {
    const cwd = mkdtempSync(join(tmpdir(), 'tocsin-commands-'));
    // As root the private PostgreSQL runs as somebody else, who must get through.
    chmodSync(cwd, 0o755);
    const create = async (name: string): Promise<number> =>
      runCommandLine(['api-keys', 'create', '--name', name], {
        env: {},
        cwd,
        terminal: scriptedTerminal(),
        events: new EventEmitter(),
      });
    try {
      expect(await create('alone')).toBe(0);
      const server = await openStore({ dataDir: join(cwd, 'data'), log: silentLogger });
      try {
        expect(await create('beside')).toBe(0);
        const rows = await server.db.query<{ name: string }>('SELECT name FROM api_keys ORDER BY name');
        expect(rows.map(({ name }) => name)).toEqual(['alone', 'beside']);
      } finally {
        await server.close();
      }
    } finally {
      rmSync(cwd, { recursive: true, force: true });
    }
  });
});
