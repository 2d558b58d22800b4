import { once } from 'node:events';
import { copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { createAuthority, LOCAL_NAMES, type TestAuthority, type TestCertificate } from '@tocsin/testkit/certificates';
import { folderRemoved, guardedFolder } from '@tocsin/testkit/guard';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createListener, replaceCertificates } from '../transports/http/server-socket.ts';
import { type CertificateWatch, EXPIRY_NOTICE_MS, watchCertificates } from './certificate-watch.ts';
import { type Certificates, judgeCertificates, readCertificates } from './tls.ts';

const DAY_MS = 86_400_000;
const SOCKETS = 200;

let authority: TestAuthority;
let another: TestAuthority;
let pairs: readonly TestCertificate[];
let folder: string;
beforeAll(() => {
  authority = createAuthority();
  another = createAuthority('another');
  pairs = ['one', 'two', 'three'].map((name) => authority.issue({ subject: `/CN=${name}`, names: LOCAL_NAMES }));
});
afterAll(() => {
  authority.remove();
  another.remove();
});
beforeEach(() => {
  folder = guardedFolder('tocsin-certificates-');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  folderRemoved(folder);
});

const pair = (index: number): TestCertificate => pairs[index] as TestCertificate;
const file = (name: string): string => join(folder, name);
const files = () => ({ cert: file('tls.crt'), key: file('tls.key'), clientCa: file('ca.crt') });

/** As certbot and cert-manager do it: a new file takes the name of the old one. */
function put(name: string, text: string): void {
  writeFileSync(file(`${name}.new`), text);
  renameSync(file(`${name}.new`), file(name));
}
function putPair({ cert, key }: Pick<TestCertificate, 'cert' | 'key'>): void {
  put('tls.crt', cert);
  put('tls.key', key);
}

interface Line {
  readonly message: string;
  readonly fault?: string;
  readonly validTo?: string;
}

interface Scene {
  readonly watch: CertificateWatch;
  readonly lines: Line[];
  readonly used: Certificates[];
  readonly caChanges: boolean[];
  readonly expiry: number[];
  pass(ms: number): void;
}

const watches: CertificateWatch[] = [];
afterEach(() => {
  for (const watch of watches.splice(0)) watch.stop();
});

async function scene(replace: (certificates: Certificates) => void = () => undefined, ahead = 0): Promise<Scene> {
  let passed = ahead;
  const lines: Line[] = [];
  const write = (fields: object, message: string): void => void lines.push({ ...fields, message });
  const first = await readCertificates(files());
  if ('fault' in first) throw new Error(first.fault);
  const used: Certificates[] = [];
  const caChanges: boolean[] = [];
  const expiry: number[] = [];
  const watch = watchCertificates({
    files: files(),
    first,
    clock: { now: () => Date.now() + passed, monotonic: () => performance.now() + passed },
    log: { info: write, warn: write, error: write },
    replace(certificates, { clientCa }) {
      replace(certificates);
      used.push(certificates);
      caChanges.push(clientCa);
    },
    expiry: (validTo) => expiry.push(validTo),
    pollMs: 3_600_000,
  });
  watches.push(watch);
  return { watch, lines, used, caChanges, expiry, pass: (ms) => (passed += ms) };
}

beforeEach(() => {
  putPair(pair(0));
  put('ca.crt', authority.ca);
});

describe('certificates of a listener', () => {
  test('are looked at by content: a file renamed over, and one written in place', async () => {
    const { watch, used, lines } = await scene();
    expect(await watch.check()).toBe('same');
    putPair(pair(1));
    expect(await watch.check()).toBe('replaced');
    writeFileSync(file('tls.crt'), pair(2).cert);
    writeFileSync(file('tls.key'), pair(2).key);
    expect(await watch.check()).toBe('replaced');
    expect(used.map(({ tls }) => String(tls.cert))).toEqual([pair(1).cert, pair(2).cert]);
    expect(lines.map(({ message }) => message)).toEqual(Array(2).fill('the certificate of the listener was replaced'));
  });

  test('follow a link that is swapped for another folder, as in Kubernetes', async () => {
    for (const [index, version] of ['..1', '..2'].entries()) {
      mkdirSync(file(version));
      writeFileSync(file(`${version}/tls.crt`), pair(index).cert);
      writeFileSync(file(`${version}/tls.key`), pair(index).key);
    }
    symlinkSync('..1', file('..data'));
    for (const name of ['tls.crt', 'tls.key']) {
      rmSync(file(name));
      symlinkSync(`..data/${name}`, file(name));
    }
    const { watch, used } = await scene();
    symlinkSync('..2', file('..data.new'));
    renameSync(file('..data.new'), file('..data'));
    expect(await watch.check()).toBe('replaced');
    expect(String(used[0]?.tls.cert)).toBe(pair(1).cert);
  });

  test.each([
    ['the key of another certificate', () => put('tls.key', pair(1).key), 'TLS_KEY is the key of another certificate'],
    ['half a certificate', () => truncateSync(file('tls.crt'), 300), 'TLS_CERT does not hold a whole certificate'],
    [
      'a chain with half a second one',
      () => put('tls.crt', pair(0).cert + pair(1).cert.slice(0, 300)),
      'TLS_CERT does not hold a whole certificate',
    ],
    ['an empty certificate', () => put('tls.crt', ''), 'TLS_CERT does not hold a whole certificate'],
    ['an empty key', () => put('tls.key', ''), 'TLS_KEY does not hold a private key without a passphrase'],
    [
      'half a client CA',
      () => put('ca.crt', authority.ca + authority.ca.slice(0, 200)),
      'TLS_CLIENT_CA does not hold whole certificates',
    ],
    ['no client CA in its file', () => put('ca.crt', ''), 'TLS_CLIENT_CA does not hold whole certificates'],
    ['a file that is gone', () => rmSync(file('tls.key')), 'a file cannot be read (ENOENT)'],
    [
      'a folder in its place',
      () => (rmSync(file('tls.key')), mkdirSync(file('tls.key'))),
      'a file cannot be read (too large, or no file)',
    ],
    [
      'a file without end',
      () => (writeFileSync(file('tls.key'), ''), truncateSync(file('tls.key'), 1_048_577)),
      'a file cannot be read (too large, or no file)',
    ],
  ])('stay with %s, which is told once in ten minutes and never shown', async (_what, spoil, fault) => {
    const { watch, used, lines, pass } = await scene();
    spoil();
    for (let look = 0; look < 5; look++) expect(await watch.check()).toBe('kept');
    expect(lines.map((line) => line.fault)).toEqual([fault]);
    pass(600_000);
    expect(await watch.check()).toBe('kept');
    expect(lines).toHaveLength(2);
    expect(used).toEqual([]);
    expect(JSON.stringify(lines)).not.toMatch(/BEGIN|PRIVATE/);
    rmSync(file('tls.key'), { recursive: true, force: true });
    putPair(pair(1));
    put('ca.crt', authority.ca);
    expect(await watch.check()).toBe('replaced');
  });

  test('stay when the listener itself refuses the new ones', async () => {
    const { watch, used, lines } = await scene(() => {
      throw new Error('no');
    });
    putPair(pair(1));
    expect(await watch.check()).toBe('kept');
    expect(used).toEqual([]);
    expect(lines.at(-1)?.fault).toBe('the listener refused them');
  });

  test('that are valid are not replaced by expired ones, but expired ones are by whatever comes', async () => {
    const old = authority.issue({ names: LOCAL_NAMES, days: -1 });
    const { watch, lines, used } = await scene();
    putPair(old);
    expect(await watch.check()).toBe('kept');
    expect(lines.at(-1)?.fault).toBe('the new certificate has expired');
    const late = await (async () => {
      putPair(pair(0));
      return scene(() => undefined, 40 * DAY_MS);
    })();
    putPair(old);
    expect(await late.watch.check()).toBe('replaced');
    expect([used.length, late.used.length]).toEqual([0, 1]);
  });

  test('tell of another client CA, and only of another one', async () => {
    const { watch, caChanges } = await scene();
    putPair(pair(1));
    await watch.check();
    put('ca.crt', another.ca);
    await watch.check();
    expect(caChanges).toEqual([false, true]);
  });

  test('that end within 14 days are told of once a day, and their end is measured', async () => {
    const validTo = ((await readCertificates(files())) as Certificates).validTo;
    const untilNotice = validTo - Date.now() - EXPIRY_NOTICE_MS;
    const { watch, lines, expiry, pass } = await scene();
    expect([lines, expiry]).toEqual([[], [validTo]]);
    pass(untilNotice + 60_000);
    for (let look = 0; look < 3; look++) await watch.check();
    expect(lines).toMatchObject([
      { message: 'the certificate of the listener ends soon', validTo: new Date(validTo).toISOString() },
    ]);
    pass(DAY_MS);
    await watch.check();
    expect(lines).toHaveLength(2);
    pass(EXPIRY_NOTICE_MS);
    await watch.check();
    expect(lines.at(-1)?.message).toBe('the certificate of the listener has expired');
    putPair(authority.issue({ names: LOCAL_NAMES, days: 90 }));
    await watch.check();
    expect(expiry.at(-1)).toBeGreaterThan(validTo);
  });

  test('may be a chain, and the first of it is the listener’s', () => {
    const { cert, key } = pair(1);
    const judged = judgeCertificates(Buffer.from(cert + authority.ca), Buffer.from(key), null);
    expect(judged).not.toHaveProperty('fault');
    expect(judgeCertificates(Buffer.from(authority.ca + cert), Buffer.from(key), null)).toHaveProperty('fault');
  });
});

describe('a listener whose certificates are replaced', () => {
  test('closes no socket, and shows the new certificate from the next handshake on', async () => {
    const first = (await readCertificates(files())) as Certificates;
    const server = createListener((_request, response) => response.end('ok'), first.tls, {
      https: true,
      now: Date.now,
    });
    server.on('upgrade', (_request, socket) => {
      socket.on('error', () => undefined);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      socket.pipe(socket);
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const sockets: TLSSocket[] = [];
    let closed = 0;
    const open = async (): Promise<TLSSocket> => {
      const socket = connect({ port, host: '127.0.0.1', ca: authority.ca });
      socket.on('close', () => (closed += 1)).on('error', () => undefined);
      await once(socket, 'secureConnect');
      sockets.push(socket);
      socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      await once(socket, 'data');
      return socket;
    };
    const shown = (socket: TLSSocket): string => String(socket.getPeerCertificate().subject.CN);
    const echoed = async (socket: TLSSocket, text: string): Promise<string> => {
      socket.write(text);
      const [data] = (await once(socket, 'data')) as [Buffer];
      return data.toString();
    };
    const { watch } = await scene(({ tls }) => replaceCertificates(server, tls));
    try {
      await Promise.all(Array.from({ length: SOCKETS }, open));
      for (const [round, index] of [1, 2, 0, 1].entries()) {
        copyFileSync(pair(index).certFile, file('tls.crt'));
        expect(await watch.check()).toBe('kept');
        copyFileSync(pair(index).keyFile, file('tls.key'));
        // Handshakes go on while the pair is replaced.
        const [look, ...meanwhile] = await Promise.all([watch.check(), open(), open(), open()]);
        expect(look).toBe('replaced');
        expect(meanwhile).toHaveLength(3);
        expect(shown(await open())).toBe(['one', 'two', 'three'][index]);
        const answers = await Promise.all(sockets.map((socket) => echoed(socket, `round ${round}`)));
        expect(answers.filter((answer) => answer === `round ${round}`)).toHaveLength(sockets.length);
      }
      expect([closed, sockets.length]).toEqual([0, SOCKETS + 4 * 4]);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      server.close();
    }
  });
});
