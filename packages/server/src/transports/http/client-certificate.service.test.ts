import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { createAuthority, LOCAL_NAMES, type TestAuthority, type TestCertificate } from '@tocsin/testkit/certificates';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ClientCertificate, type ClientCertificates, watchClientCertificates } from './client-certificate.ts';
import { createListener, replaceCertificates } from './server-socket.ts';

let authority: TestAuthority;
let foreign: TestAuthority;
let own: TestCertificate;
let ann: TestCertificate;
beforeAll(() => {
  authority = createAuthority();
  foreign = createAuthority('foreign');
  own = authority.issue({ names: LOCAL_NAMES });
  ann = authority.issue({
    subject: '/CN=Ann',
    names: ['email:ann@b.example', 'URI:urn:tocsin:user:x1', 'DNS:b.example'],
  });
});
afterAll(() => {
  authority.remove();
  foreign.remove();
});

let server: Server;
let clients: ClientCertificates;
let seen: (ClientCertificate | null)[];
let resumed: boolean[];
const sockets: TLSSocket[] = [];
beforeEach(async () => {
  seen = [];
  resumed = [];
  server = createListener(
    ({ socket }, response) => {
      seen.push(clients.of(socket, Date.now()));
      resumed.push((socket as TLSSocket).isSessionReused());
      response.end();
    },
    { cert: own.cert, key: own.key, clientCa: authority.ca },
    { https: true, now: Date.now },
  );
  clients = watchClientCertificates(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.closeAllConnections();
  server.close();
});

const swapCa = (clientCa: string): void => {
  replaceCertificates(server, { cert: own.cert, key: own.key, clientCa });
  clients.caChanged();
};
const identity = ({ cert, key }: TestCertificate): ConnectionOptions => ({ cert, key });

async function open(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1', ca: authority.ca, ...options });
  sockets.push(socket);
  await once(socket, 'secureConnect');
  return socket;
}
/** What the server saw of one request on this socket. */
async function look(socket: TLSSocket): Promise<ClientCertificate | null | undefined> {
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(socket, 'data');
  return seen.at(-1);
}
/** Asks once, and answers the session that the client was given by then (in TLS 1.3 it comes after the handshake). */
async function sessionOf(options: ConnectionOptions): Promise<Buffer> {
  const socket = await open(options);
  let session: Buffer | undefined = socket.getSession();
  socket.on('session', (given: Buffer) => (session = given));
  await look(socket);
  return session as Buffer;
}

describe('the certificate of a client', () => {
  test('is read as names when our CA has issued it', async () => {
    expect(await look(await open(identity(ann)))).toMatchObject({
      doubt: null,
      emails: ['ann@b.example'],
      uris: ['urn:tocsin:user:x1'],
      commonNames: ['Ann'],
    });
    expect(await look(await open())).toBeNull();
  });

  test.each([
    ['another CA', () => foreign.issue({ subject: '/CN=Ann' }), 'unverified'],
    ['our CA, but expired', () => authority.issue({ subject: '/CN=Ann', days: -1 }), 'unverified'],
    ['our CA, but for servers only', () => authority.issue({ subject: '/CN=Ann', usage: 'serverAuth' }), 'unverified'],
    [
      'our CA, with too many names',
      () => authority.issue({ names: Array.from({ length: 17 }, (_, n) => `email:a${n}@b.c`) }),
      'too-many-names',
    ],
  ])('of %s is doubted', async (_whose, issue, doubt) => {
    expect(await look(await open(identity(issue())))).toMatchObject({ doubt });
  });

  test('of our CA for clients only, or for anything, is believed', async () => {
    for (const usage of ['clientAuth', undefined] as const) {
      const issued = authority.issue(usage === undefined ? {} : { usage });
      expect(await look(await open(identity(issued)))).toMatchObject({ doubt: null });
    }
  });

  test('is doubted once it has expired on an open connection', async () => {
    const socket = await open(identity(ann));
    await look(socket);
    server.once('request', ({ socket: inner }) => {
      const validTo = clients.of(inner, Date.now())?.validTo ?? 0;
      seen.push(clients.of(inner, validTo - 1), clients.of(inner, validTo));
    });
    await look(socket);
    expect(seen.slice(-2).map((certificate) => certificate?.doubt)).toEqual([null, 'expired']);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'of a resumed %s session is believed as long as the CA stays, and not when it was replaced',
    async (maxVersion) => {
      const options = { ...identity(ann), maxVersion };
      const session = await sessionOf(options);
      expect(await look(await open({ ...options, session }))).toMatchObject({ doubt: null, commonNames: ['Ann'] });
      swapCa(foreign.ca);
      expect(await look(await open({ ...options, session }))).toMatchObject({ doubt: 'unverified' });
      expect(resumed).toEqual([false, true, false]);
    },
  );

  test('is none on a resumed session of somebody without one', async () => {
    const session = await sessionOf({ maxVersion: 'TLSv1.3' });
    expect(await look(await open({ maxVersion: 'TLSv1.3', session }))).toBeNull();
    // Node 20 calls such a socket authorized, Node 24 does not.
    expect(resumed).toEqual([false, true]);
  });

  test('is not believed on a connection that began before the CA was replaced, a slow handshake included', async () => {
    const before = await open(identity(ann));
    expect(await look(before)).toMatchObject({ doubt: null });
    const { port } = server.address() as AddressInfo;
    const bare = connectTcp(port, '127.0.0.1');
    await Promise.all([once(bare, 'connect'), once(server, 'connection')]);
    swapCa(foreign.ca);
    expect(await look(before)).toMatchObject({ doubt: 'earlier-ca' });
    const slow = connect({ socket: bare, ca: authority.ca, ...identity(ann) });
    sockets.push(slow);
    await once(slow, 'secureConnect');
    expect(await look(slow)).toMatchObject({ doubt: 'earlier-ca' });
    swapCa(authority.ca);
    expect(await look(before)).toMatchObject({ doubt: 'earlier-ca' });
    expect(await look(await open(identity(ann)))).toMatchObject({ doubt: null });
  });

  test('cannot change after it was verified: a renegotiation ends the connection, also after a reload', async () => {
    for (const reload of [false, true]) {
      if (reload) replaceCertificates(server, { cert: own.cert, key: own.key, clientCa: authority.ca });
      const socket = await open({ ...identity(ann), maxVersion: 'TLSv1.2' });
      expect(await look(socket)).toMatchObject({ doubt: null });
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.renegotiate({ rejectUnauthorized: false }, () => undefined);
      await closed;
    }
  });

  test('stays believed when only the certificate of the server was replaced', async () => {
    const socket = await open(identity(ann));
    const next = authority.issue({ names: LOCAL_NAMES });
    replaceCertificates(server, { cert: next.cert, key: next.key, clientCa: authority.ca });
    expect(await look(socket)).toMatchObject({ doubt: null });
  });
});
