import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAnnounce, ensureClusterSecret } from './first-start.ts';

let dataDir: string;
beforeEach(() => {
  dataDir = join(mkdtempSync(join(tmpdir(), 'tocsin-first-')), 'data');
});
afterEach(() => rmSync(join(dataDir, '..'), { recursive: true, force: true }));

const mode = (file: string): number => statSync(join(dataDir, file)).mode & 0o777;

describe('the cluster secret', () => {
  it('is made once, of 256 bits, in a file that only we can read', async () => {
    const secret = await ensureClusterSecret({ clusterSecret: null, dataDir });
    expect(secret).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(mode('cluster-secret')).toBe(0o600);
    expect(await ensureClusterSecret({ clusterSecret: null, dataDir })).toBe(secret);
    expect(readdirSync(dataDir)).toEqual(['cluster-secret']);
  });

  it('is the same for all that start at once', async () => {
    const secrets = await Promise.all(
      Array.from({ length: 20 }, () => ensureClusterSecret({ clusterSecret: null, dataDir })),
    );
    expect(new Set(secrets).size).toBe(1);
    expect(readdirSync(dataDir)).toEqual(['cluster-secret']);
  });

  it('that is given counts, and nothing is written', async () => {
    expect(await ensureClusterSecret({ clusterSecret: 'given', dataDir })).toBe('given');
    expect(() => readdirSync(dataDir)).toThrow();
  });

  it('is closed to others again when its file was open', async () => {
    const secret = await ensureClusterSecret({ clusterSecret: null, dataDir });
    chmodSync(join(dataDir, 'cluster-secret'), 0o644);
    expect(await ensureClusterSecret({ clusterSecret: null, dataDir })).toBe(secret);
    expect(mode('cluster-secret')).toBe(0o600);
  });

  it('that cannot be written names DATA_DIR and why', async () => {
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, 'file'), '');
    const closed = join(dataDir, 'file', 'data');
    await expect(ensureClusterSecret({ clusterSecret: null, dataDir: closed })).rejects.toThrow(
      /cannot be (written|used): .*ENOTDIR/,
    );
  });

  it('is never replaced when its file is damaged', async () => {
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, 'cluster-secret'), 'cut');
    await expect(ensureClusterSecret({ clusterSecret: null, dataDir })).rejects.toMatchObject({
      code: 'cluster-secret-unreadable',
    });
    expect(readFileSync(join(dataDir, 'cluster-secret'), 'utf8')).toBe('cut');
  });
});

describe('generated credentials', () => {
  const generated = { admin: { email: 'admin@tocsin.invalid', password: 'the password' }, apiKey: 'the key' };

  it('are shown on a terminal and written nowhere', async () => {
    let shown = '';
    const log = { warn: () => expect.unreachable() };
    await createAnnounce({
      dataDir,
      log,
      terminal: (text) => {
        shown += text;
      },
    })(generated);
    for (const secret of ['admin@tocsin.invalid', 'the password', 'the key']) expect(shown).toContain(secret);
    expect(() => readdirSync(dataDir)).toThrow();
  });

  it('go to a file that only we can read when there is no terminal, and its path, not they, to the log', async () => {
    const logged: unknown[] = [];
    await createAnnounce({ dataDir, log: { warn: (...line) => logged.push(line) } })(generated);
    expect(mode('first-start.txt')).toBe(0o600);
    const text = readFileSync(join(dataDir, 'first-start.txt'), 'utf8');
    expect(text).toContain('ADMIN_EMAIL=admin@tocsin.invalid\nADMIN_PASSWORD=the password\nAPI_KEY=the key\n');
    expect(JSON.stringify(logged)).toContain('first-start.txt');
    expect(JSON.stringify(logged)).not.toContain('the password');
  });

  it('that cannot be written down are refused, so that nobody gets a password that nobody knows', async () => {
    writeFileSync(dataDir, 'a file where the folder should be');
    await expect(createAnnounce({ dataDir, log: { warn: () => undefined } })(generated)).rejects.toThrow();
  });
});
