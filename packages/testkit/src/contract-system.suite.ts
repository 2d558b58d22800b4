/** A whole system with one registered device, and short words for what a test of the contract does to it. */
import { type KeyObject, sign } from 'node:crypto';
import { expect } from 'vitest';
import { ask, type Reply, type Sent } from './contract-client.suite.ts';
import { createDevice, type ScriptedDevice } from './device.ts';
import { startTestApp, type TestApp } from './test-app.ts';

/** The system, with its words. */
export interface Contract {
  readonly app: TestApp;
  /** A seismic device called `sensor`. */
  readonly device: ScriptedDevice;
  go(path: string, sent?: Sent): Promise<Reply>;
  /** A request of the first admin; `body` goes as JSON. */
  admin(method: string, path: string, body?: unknown): Promise<Reply>;
  /** Posts text to `/v1/readings` with the content type and a key; `sent` overrides. */
  send(body: string | Buffer, sent?: Sent): Promise<Reply>;
  /** Registers a new device with a new key. */
  register(id: string, profile?: string, more?: object): Promise<ScriptedDevice>;
  /** Makes an API key; answers its text. */
  makeKey(scopes: readonly string[]): Promise<string>;
  /** Compact JWS of a payload, as it is. */
  sealed(payload: string | Buffer, of?: ScriptedDevice): string;
  /** Seals a payload (an object goes as JSON) and posts it. */
  sendJson(payload: unknown, of?: ScriptedDevice): Promise<Reply>;
  /** Looks until `path` counts `count`: accepted readings show within a second. */
  counted(path: string, count: number): Promise<Reply>;
}

let serial = 0;

/** A name that was not used before in this process. */
export function fresh(prefix: string): string {
  serial += 1;
  return `${prefix}-${serial}`;
}

/** A JWS of any header and payload, signed as r||s or DER. */
export function jws(
  key: KeyObject,
  header: unknown,
  payload: string | Buffer,
  encoding: 'ieee-p1363' | 'der' = 'ieee-p1363',
): string {
  const head = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header)).toString('base64url');
  const body = Buffer.from(payload).toString('base64url');
  const signature = sign('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding: encoding });
  return `${head}.${body}.${signature.toString('base64url')}`;
}

/** A trigger of now. */
export function trigger(value: number = 1): { at: number; value: number } {
  return { at: Date.now(), value };
}

/** An envelope that is as it should be, but for what `more` says. */
export function envelope(more: object = {}): Record<string, unknown> {
  return { id: fresh('e'), at: Date.now(), profile: 'seismic', readings: [trigger()], ...more };
}

/** Starts the system, with limits so wide that only tests of limits meet them. */
export async function openContract(environment: Readonly<Record<string, string>> = {}): Promise<Contract> {
  const limits = { RATE_LIMIT_PER_KEY: '100000', RATE_LIMIT_BURST: '200000', RATE_LIMIT_PER_DEVICE: '5000' };
  const app = await startTestApp({ ...limits, ...environment });
  const go: Contract['go'] = (path, sent = {}) => ask(app.base + path, sent);
  const admin: Contract['admin'] = (method, path, body) =>
    go(path, { method, token: app.token, ...(body === undefined ? {} : { body }) });
  const send: Contract['send'] = (body, sent = {}) => {
    const headers = { 'content-type': 'application/jose', 'x-api-key': app.apiKey, ...sent.headers };
    return go('/v1/readings', { method: 'POST', body, ...sent, headers });
  };
  const register: Contract['register'] = async (id, profile = 'seismic', more = {}) => {
    const made = createDevice(id);
    const reply = await admin('POST', '/v1/devices', { id, profile, publicKey: made.publicKeyPem, ...more });
    expect(reply.status).toBe(201);
    return made;
  };
  const device = await register('sensor');
  const sealed: Contract['sealed'] = (payload, of = device) =>
    jws(of.privateKey, { alg: 'ES256', kid: of.id }, payload);
  return {
    app,
    device,
    go,
    admin,
    send,
    register,
    sealed,
    sendJson: (payload, of = device) =>
      send(sealed(typeof payload === 'string' ? payload : JSON.stringify(payload), of)),
    async makeKey(scopes) {
      const reply = await admin('POST', '/v1/api-keys', { name: fresh('key'), scopes });
      expect(reply.status).toBe(201);
      return reply.json.key;
    },
    async counted(path, count) {
      const until = performance.now() + 5000;
      for (;;) {
        const reply = await go(path, { token: app.token });
        if (reply.json?.count === count || performance.now() > until) {
          expect(reply.json).toMatchObject({ count });
          return reply;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
}
