import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { describeWith } from '@tocsin/testkit/needs';
import { COMMAND } from '@tocsin/testkit/server-process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createMemoryBus } from '../bus/memory/bus.ts';
import type { GeneratedCredentials } from '../identity/first-start.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../ops/logging.ts';
import { readMigrations } from '../store/migrate.ts';
import { openStore } from '../store/open.ts';
import { openIdentity } from './open-identity.ts';
import { readSettings, type Settings } from './settings.ts';

const SECRET = 'the cluster secret of several processes';

/** Runs `tocsin migrate --json` as a process; answers what it applied. */
function migrateProcess(databaseUrl: string): Promise<{ code: number | null; applied: string[]; err: string }> {
  const child = spawn(process.execPath, [COMMAND, 'migrate', '--json'], {
    cwd: tmpdir(),
    env: { PATH: process.env['PATH'] ?? '', DATABASE_URL: databaseUrl, CLUSTER_SECRET: SECRET },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      const { applied } = code === 0 ? (JSON.parse(text.out) as { applied: string[] }) : { applied: [] };
      resolve({ code, applied, err: text.err });
    });
  });
}

describeWith(['postgres15-postgis'], 'an empty database', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await openTestDatabase({ engine: 'postgis', migrated: false });
  });
  afterEach(() => database.close());

  test('that six processes of "tocsin migrate" find at once is migrated once', async () => {
    const ends = await Promise.all(Array.from({ length: 6 }, () => migrateProcess(database.url)));
    expect(ends.map(({ code, err }) => ({ code, err }))).toEqual(ends.map(() => ({ code: 0, err: '' })));
    const names = (await readMigrations()).map(({ name }) => name);
    expect(ends.flatMap(({ applied }) => applied).sort()).toEqual(names);
    expect(await database.db.query('SELECT name FROM schema_migrations ORDER BY name')).toEqual(
      names.map((name) => ({ name })),
    );
  });

  test('that four processes start on at once gets one operator, one API key and one key for each purpose', async () => {
    const outcome = readSettings({ DATABASE_URL: database.url, CLUSTER_SECRET: SECRET }, tmpdir());
    if ('mistakes' in outcome) throw new Error(outcome.mistakes.join('\n'));
    const told: GeneratedCredentials[] = [];
    const start = async (settings: Settings): Promise<() => Promise<void>> => {
      const store = await openStore({ databaseUrl: database.url, dataDir: '/nowhere', log: silentLogger });
      const bus = createMemoryBus({ clock: systemClock });
      const identity = await openIdentity(settings, {
        db: store.db,
        front: store.front,
        bus,
        clock: systemClock,
        clusterSecret: SECRET,
        publicUrl: 'http://tocsin.test',
        onEvent: () => undefined,
      });
      await identity.ensureFirst({}, (generated) => void told.push(generated));
      return async () => {
        await identity.close();
        await bus.close();
        await store.close();
      };
    };
    const ends = await Promise.all(Array.from({ length: 4 }, () => start(outcome.settings)));
    for (const end of ends) await end();
    const count = (table: string): Promise<{ n: number }[]> => database.db.query(`SELECT count(*) AS n FROM ${table}`);
    expect(told.filter(({ admin }) => admin !== null)).toHaveLength(1);
    expect(told.filter(({ apiKey }) => apiKey !== null)).toHaveLength(1);
    expect(await count('users')).toEqual([{ n: 1 }]);
    expect(await count('api_keys')).toEqual([{ n: 1 }]);
    expect(await database.db.query('SELECT purpose, retired_at FROM signing_keys ORDER BY purpose')).toEqual(
      ['alert', 'command', 'token'].map((purpose) => ({ purpose, retired_at: null })),
    );
    expect(await count('schema_migrations')).toEqual([{ n: (await readMigrations()).length }]);
  });
});
