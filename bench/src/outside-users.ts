/** An identity provider of its own: a JWKS and tokens of as many users as wanted, as `JWKS_URL` accepts them. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A running provider. */
export interface OutsideUsers {
  readonly jwksUrl: string;
  /** An access token of the user `user-<n>`, role `viewer`. */
  token(n: number): string;
  stop(): void;
}

const KID = 'outside-1';

/** Starts it. `issuer`: what the server's JWT_ISSUER says. */
export async function startOutsideUsers(issuer: string): Promise<OutsideUsers> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: KID, use: 'sig', alg: 'ES256' };
  const body = JSON.stringify({ keys: [jwk] });
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const header = part({ alg: 'ES256', kid: KID, typ: 'at+jwt' });
  return {
    jwksUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`,
    token(n) {
      const now = Math.floor(Date.now() / 1000);
      const claims = { iss: issuer, aud: 'tocsin', sub: `user-${n}`, iat: now, exp: now + 7200, tocsin_role: 'viewer' };
      const input = `${header}.${part(claims)}`;
      const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return `${input}.${signature.toString('base64url')}`;
    },
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
