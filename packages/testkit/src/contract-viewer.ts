/**
 * A client of the realtime contract that shares no code with the server: handshakes byte by byte over TCP, RFC 8785 and
 * detached JWS by WebCrypto. What it finds is judged by `contract-realtime.service.test.ts`.
 */
import { randomBytes, webcrypto } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { call, postJson } from './device.ts';

/** How a server answered raw bytes. */
export interface RawAnswer {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly socket: Socket;
}

/** Writes bytes to the server as it is; resolves with the head of its answer, and the body as far as it came with it. */
export function sendRaw(base: string, bytes: string | Buffer): Promise<RawAnswer> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    let got = Buffer.alloc(0);
    const look = (ended: boolean): void => {
      const end = got.indexOf('\r\n\r\n');
      if (end < 0) return ended ? reject(new Error('the connection ended without an answer')) : undefined;
      const [first = '', ...lines] = got.toString('latin1', 0, end).split('\r\n');
      const pairs = lines.map((line): [string, string] => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      });
      const headers = Object.fromEntries(pairs);
      const body = got.toString('utf8', end + 4);
      if (!ended && Buffer.byteLength(body) < Number(headers['content-length'] ?? 0)) return;
      socket.removeListener('data', onData);
      resolve({ status: Number(first.split(' ')[1]), headers, body, socket });
    };
    const onData = (chunk: Buffer): void => {
      got = Buffer.concat([got, chunk]);
      look(false);
    };
    socket.on('data', onData);
    socket.on('error', reject);
    socket.on('close', () => look(true));
  });
}

/** A handshake (RFC 6455 section 4.1) as text; `headers` add to or (undefined) remove from a right one. */
export function handshakeText(target: string, headers: Readonly<Record<string, string | undefined>> = {}): string {
  const all: Record<string, string | undefined> = {
    Host: 'contract.test',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Version': '13',
    ...headers,
  };
  const lines = Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`]));
  return `GET ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
}

/** Handshakes, lets go of the socket, and answers what came. */
export async function shake(
  base: string,
  target: string,
  headers: Readonly<Record<string, string | undefined>> = {},
): Promise<RawAnswer> {
  const answer = await sendRaw(base, handshakeText(target, headers));
  answer.socket.destroy();
  return answer;
}

/** The canonical form of a JSON value (RFC 8785): keys by UTF-16 units, numbers and texts as ECMAScript writes them. */
export function canonicalForm(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalForm).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalForm(member)}`).join(',')}}`;
}

/** Whether `signature` of the object (RFC 7515 appendix F) checks with the key that the JWKS has under its `kid`. */
export async function signatureChecks(base: string, signed: Readonly<Record<string, unknown>>): Promise<boolean> {
  const { signature, ...rest } = signed;
  const [header = '', middle, encoded = '', ...more] = String(signature).split('.');
  if (middle !== '' || more.length > 0) return false;
  const { alg, kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { alg: string; kid: string };
  const jwks = (await call(`${base}/.well-known/jwks.json`)).body?.['keys'] as { kid: string }[];
  const jwk = jwks.find((key) => key.kid === kid);
  if (alg !== 'ES256' || jwk === undefined) return false;
  const { subtle } = webcrypto;
  const key = await subtle.importKey('jwk', jwk as object, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify']);
  const input = Buffer.from(`${header}.${Buffer.from(canonicalForm(rest)).toString('base64url')}`);
  return subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, Buffer.from(encoded, 'base64url'), input);
}

/** A person of a test, signed in. */
export interface Person {
  readonly email: string;
  readonly password: string;
  readonly token: string;
  readonly refreshToken: string;
}

/** Signs in; answers what came, with the cookie when it was asked for. */
export async function signInAs(
  base: string,
  who: { readonly email: string; readonly password: string },
  extra: object = {},
): Promise<Person & { readonly cookie: string }> {
  const answer = await postJson(`${base}/v1/auth/login`, { email: who.email, password: who.password, ...extra });
  if (answer.status !== 200) throw new Error(`sign-in: ${answer.status} ${JSON.stringify(answer.body)}`);
  const cookie = String(answer.headers['set-cookie'] ?? '');
  const { access_token: token, refresh_token: refreshToken } = answer.body as Record<string, string>;
  return { email: who.email, password: who.password, token: String(token), refreshToken: String(refreshToken), cookie };
}

/** Makes a person and signs in. */
export async function newPerson(base: string, adminToken: string, role: string = 'viewer'): Promise<Person> {
  const who = { email: `p${randomBytes(6).toString('hex')}@example.org`, password: randomBytes(12).toString('hex') };
  const made = await postJson(`${base}/v1/users`, { ...who, role }, { token: adminToken });
  if (made.status !== 201) throw new Error(`user: ${made.status} ${JSON.stringify(made.body)}`);
  return signInAs(base, who);
}
