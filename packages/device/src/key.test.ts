import { createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createKey, loadOrCreateKey, publicKeyHex, publicKeyPem } from './key.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-key-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const path = (): string => join(folder, 'key.pem');
const pkcs8 = { type: 'pkcs8', format: 'pem' } as const;

describe('the key file', () => {
  it('is made once, for its owner only, and holds the same key the next time', async () => {
    const made = await loadOrCreateKey(path());
    expect(statSync(path()).mode & 0o777).toBe(0o600);
    expect(readFileSync(path(), 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    const again = await loadOrCreateKey(path());
    expect(publicKeyPem(again)).toBe(publicKeyPem(made));
    expect(readdirSync(folder)).toEqual(['key.pem']);
  });

  it('is one key for all who make it at once', async () => {
    const keys = await Promise.all(Array.from({ length: 20 }, () => loadOrCreateKey(path())));
    expect(new Set(keys.map(publicKeyPem)).size).toBe(1);
    expect(readdirSync(folder)).toEqual(['key.pem']);
  });

  it('that others can read is refused by path and rule, and left as it is', async () => {
    await loadOrCreateKey(path());
    const before = readFileSync(path(), 'utf8');
    for (const mode of [0o640, 0o604, 0o660, 0o601]) {
      chmodSync(path(), mode);
      await expect(loadOrCreateKey(path())).rejects.toMatchObject({
        code: 'key-file-open',
        message: expect.stringMatching(`${path()}.*0600`),
      });
    }
    expect(readFileSync(path(), 'utf8')).toBe(before);
  });

  it.each([
    ['nothing', ''],
    ['no PEM', 'not a key'],
    ['a public key', publicKeyPem(createKey())],
    ['a key of another curve', String(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export(pkcs8))],
    ['an Ed25519 key', String(generateKeyPairSync('ed25519').privateKey.export(pkcs8))],
    ['far too much', 'x'.repeat(20_000)],
  ])('that holds %s is refused, without a word of its content', async (_, content) => {
    writeFileSync(path(), content, { mode: 0o600 });
    await expect(loadOrCreateKey(path())).rejects.toMatchObject({
      code: 'key-file-invalid',
      message: `${path()} holds no private P-256 key; expected is PKCS#8 as PEM`,
    });
  });

  it('in a folder that is not there is refused', async () => {
    const nowhere = join(folder, 'none', 'key.pem');
    await expect(loadOrCreateKey(nowhere)).rejects.toMatchObject({ code: 'folder-unusable' });
  });
});

describe('the public key in hex', () => {
  it('is the point of the key', () => {
    const key = createKey();
    const hex = publicKeyHex(key);
    expect(hex).toMatch(/^04[0-9a-f]{128}$/);
    // The point is the end of the DER form.
    const der = createPublicKey(key).export({ type: 'spki', format: 'der' });
    expect(der.toString('hex').endsWith(hex)).toBe(true);
    const text = Buffer.from('text');
    expect(verify('sha256', text, publicKeyPem(key), sign('sha256', text, key))).toBe(true);
  });
});
