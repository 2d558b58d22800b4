import { once } from 'node:events';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { LOCAL_NAMES } from './certificates.ts';
import type { Answer } from './device.ts';
import { describeWith } from './needs.ts';
import { startNginx } from './web-proxy.ts';
import { describeProxy, hears } from './web-proxy.suite.ts';

/** 503 as a problem, with Retry-After and HSTS, as from a server. */
function expectProblem({ status, body, headers }: Answer): void {
  expect(status).toBe(503);
  expect(body).toMatchObject({ code: 'store-unavailable', status: 503 });
  expect(headers).toMatchObject({
    'content-type': 'application/problem+json',
    'retry-after': '1',
    'strict-transport-security': 'max-age=31536000',
  });
}

describeWith(['nginx', 'redis'], 'the example for nginx', () => {
  describeProxy('nginx', startNginx, expectProblem, (scene) => {
    async function shownBy(base: string, ca: string): Promise<string> {
      const socket = connect({ port: Number(new URL(base).port), host: '127.0.0.1', ca });
      await once(socket, 'secureConnect');
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      return fingerprint256;
    }

    test('takes a new certificate by a reload, and open sockets stay', async () => {
      const { proxy, authority, view, drill } = scene();
      const viewer = await view('127.0.0.2');
      const before = await shownBy(proxy.base, authority.ca);
      await proxy.replaceCertificate(authority.issue({ names: LOCAL_NAMES }));
      await expect.poll(() => shownBy(proxy.base, authority.ca)).not.toBe(before);
      await hears(viewer, await drill());
      expect((await viewer.close()).code).toBe(1000);
    });
  });
});
