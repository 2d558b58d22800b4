import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createCrossOrigin } from './cross-origin.ts';

const FRIEND = 'https://dashboard.example';
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(origins: readonly string[]): Promise<string> {
  const crossOrigin = createCrossOrigin(new Set(origins));
  const server = createServer((request, response) => {
    if (!crossOrigin(request, response)) response.writeHead(401).end('no');
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const preflight = (url: string, origin: string): Promise<Response> =>
  fetch(url, {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' },
  });

describe('a page of another origin', () => {
  test('that is on the list is told so, errors and preflights too, and never with cookies', async () => {
    const base = await listen([FRIEND]);
    const asked = await preflight(`${base}/v1/auth/session`, FRIEND);
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-origin')).toBe(FRIEND);
    expect(asked.headers.get('access-control-allow-headers')).toContain('Authorization');
    const answer = await fetch(`${base}/.well-known/jwks.json`, { headers: { origin: FRIEND } });
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([401, FRIEND]);
    expect(answer.headers.get('access-control-expose-headers')).toContain('Retry-After');
    for (const { headers } of [asked, answer]) {
      expect(headers.get('access-control-allow-credentials')).toBeNull();
      expect(headers.get('vary')).toContain('Origin');
    }
  });

  test('that is not on it, or asks for another path, is told nothing', async () => {
    const base = await listen([FRIEND]);
    for (const [path, origin] of [
      ['/v1/alerts', 'https://evil.example'],
      ['/v1/alerts', 'https://dashboard.example.evil.example'],
      ['/v1/alerts', 'null'],
      ['/metrics', FRIEND],
      ['/v1', FRIEND],
    ] as const) {
      const answer = await preflight(base + path, origin);
      expect([path, origin, answer.status]).toEqual([path, origin, 401]);
      expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  test('is told nothing at all while the list names only our own', async () => {
    const base = await listen([]);
    const answer = await preflight(`${base}/v1/alerts`, FRIEND);
    expect([answer.status, answer.headers.get('vary')]).toEqual([401, null]);
  });
});
