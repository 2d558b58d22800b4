/** A scripted device: a real key, real signatures, posts over HTTP like any sensor. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Agent } from 'node:http';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

/** An answer of the server. `body` is parsed JSON, or null. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown> | null;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** What an envelope holds beside its id. */
export interface EnvelopeContent {
  readonly at?: number;
  readonly profile?: string;
  readonly readings: readonly unknown[];
}

/** A device with its key. */
export interface ScriptedDevice {
  readonly id: string;
  readonly publicKeyPem: string;
  readonly privateKey: KeyObject;
  /** Compact JWS of an envelope; `at` is now unless given. */
  seal(id: string, content: EnvelopeContent): string;
}

/** Makes a device with a new P-256 key. */
export function createDevice(id: string): ScriptedDevice {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', kid: id })).toString('base64url');
  return {
    id,
    publicKeyPem: String(publicKey.export({ type: 'spki', format: 'pem' })),
    privateKey,
    seal: (envelopeId, { at = Date.now(), profile = 'seismic', readings }) => {
      const payload = Buffer.from(JSON.stringify({ id: envelopeId, at, profile, readings })).toString('base64url');
      const signature = sign('sha256', Buffer.from(`${header}.${payload}`), {
        key: privateKey,
        dsaEncoding: 'ieee-p1363',
      });
      return `${header}.${payload}.${signature.toString('base64url')}`;
    },
  };
}

/** One HTTP request; rejects when the connection breaks, with the code of the socket's error. */
export function call(
  url: string,
  options: { method?: string; headers?: Record<string, string>; body?: string; agent?: Agent; timeoutMs?: number } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body, agent, timeoutMs = 15_000 } = options;
    const request = (url.startsWith('https:') ? httpsRequest : httpRequest)(
      url,
      { method, headers, ...(agent === undefined ? {} : { agent }), timeout: timeoutMs },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({ status: response.statusCode ?? 0, body: parse(text), headers: response.headers });
        });
      },
    );
    request.on('timeout', () => request.destroy(new Error('timed out')));
    request.on('error', reject);
    request.end(body);
  });
}

function parse(text: string): Record<string, unknown> | null {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** Posts a sealed envelope. */
export function post(base: string, apiKey: string, jws: string, agent?: Agent): Promise<Answer> {
  const headers = { 'content-type': 'application/jose', 'x-api-key': apiKey };
  return call(`${base}/v1/readings`, { method: 'POST', headers, body: jws, ...(agent === undefined ? {} : { agent }) });
}

/** Posts JSON and answers; for routes of operators (`token`) or API keys (`apiKey`). */
export function postJson(
  url: string,
  body: unknown,
  credential: { token?: string; apiKey?: string } = {},
  method = 'POST',
): Promise<Answer> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (credential.token !== undefined) headers['authorization'] = `Bearer ${credential.token}`;
  if (credential.apiKey !== undefined) headers['x-api-key'] = credential.apiKey;
  return call(url, { method, headers, body: JSON.stringify(body) });
}
