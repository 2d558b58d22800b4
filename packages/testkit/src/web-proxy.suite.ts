/** What the examples of `deploy/` must do, whichever proxy it is: two gateways and a worker behind it, for real. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createAuthority, LOCAL_NAMES, type TestAuthority } from './certificates.ts';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { type Answer, call, postJson } from './device.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer, type ViewerOptions } from './viewer.ts';
import type { WebProxy, WebProxyOptions } from './web-proxy.ts';

const HSTS = 'max-age=31536000';
const PER_ADDRESS = 3;

/** What each test has. */
export interface ProxyScene {
  readonly proxy: WebProxy;
  readonly cluster: TestCluster;
  readonly authority: TestAuthority;
  /** A viewer through the proxy that comes from this address of the loopback network. */
  view(from: string, options?: ViewerOptions & { readonly query?: string }): Promise<ScriptedViewer>;
  /** Raises a drill through the proxy; answers the alert's id. */
  drill(): Promise<string>;
}

/** Waits until the viewer has the alert. */
export async function hears(viewer: ScriptedViewer, id: string): Promise<void> {
  await viewer.until(({ type, data }) => type === 'alert' && (data as { id?: unknown }).id === id);
}

/** The rules. `away` judges what is answered when no server can be reached; `more` adds rules of one proxy. */
export function describeProxy(
  name: string,
  start: (options: WebProxyOptions) => Promise<WebProxy>,
  away: (answer: Answer) => void,
  more: (scene: () => ProxyScene) => void = () => undefined,
): void {
  describe(name, () => {
    let redis: RedisServer;
    let authority: TestAuthority;
    let scene: ProxyScene;
    let agent: Agent;
    const viewers: ScriptedViewer[] = [];

    beforeAll(async () => {
      authority = createAuthority();
      agent = new Agent({ ca: authority.ca });
      redis = await startRedis();
    });
    afterAll(async () => {
      agent?.destroy();
      await redis?.stop();
      authority?.remove();
    });
    async function open(): Promise<void> {
      const environment = {
        PUBLIC_URL: 'https://tocsin.example.org',
        TRUSTED_PROXIES: '127.0.0.1',
        WS_MAX_CONNECTIONS_PER_IP: String(PER_ADDRESS),
        WS_MAX_CONNECTIONS_PER_USER: '50',
        WS_RECONNECTS_PER_MINUTE: '1000',
      };
      const started = await startTestCluster({ gateways: 2, workers: 1, redis, environment });
      let stopping: Promise<void> | undefined;
      const cluster = { ...started, stop: () => (stopping ??= started.stop()) };
      const ports = started.gateways.map(({ address }) => Number(new URL(address).port)) as [number, number];
      const proxy = await start({ certificate: authority.issue({ names: LOCAL_NAMES }), ports });
      scene = { proxy, cluster, authority, view, drill };
    }
    async function close(): Promise<void> {
      await scene?.proxy.stop();
      await scene?.cluster.stop();
    }
    afterEach(() => {
      for (const viewer of viewers.splice(0)) viewer.cut();
    });

    async function view(
      from: string,
      { query = '', ...options }: ViewerOptions & { query?: string } = {},
    ): Promise<ScriptedViewer> {
      const url = `${scene.proxy.base.replace('https', 'wss')}/ws/alerts${query}`;
      const credential = query === '' ? { token: scene.cluster.token } : {};
      const client = { ca: authority.ca, localAddress: from, ...options.client };
      const viewer = await connectViewer(url, { ...credential, ...options, client });
      viewers.push(viewer);
      return viewer;
    }
    async function drill(): Promise<string> {
      const headers = { authorization: `Bearer ${scene.cluster.token}`, 'content-type': 'application/json' };
      const body = JSON.stringify({ severity: 'minor', headline: 'a drill' });
      const answer = await call(`${scene.proxy.base}/v1/alerts`, { method: 'POST', headers, body, agent });
      if (answer.status !== 201) throw new Error(`drill: ${answer.status} ${JSON.stringify(answer.body)}`);
      return String(answer.body?.['id']);
    }
    const refused = (attempt: Promise<unknown>): Promise<HandshakeRefused> =>
      attempt.then(
        () => Promise.reject(new Error('it was let in')),
        (error: unknown) => (error instanceof HandshakeRefused ? error : Promise.reject(error as Error)),
      );

    describe('in use', () => {
      beforeAll(open);
      afterAll(close);

      test('takes the example as it is, and carries requests, and alerts to viewers of both servers', async () => {
        expect(await scene.proxy.checkConfiguration()).toMatch(/test is successful|Valid configuration/);
        const all = await Promise.all(['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'].map((from) => view(from)));
        const id = await drill();
        for (const viewer of all) {
          await hears(viewer, id);
          expect(viewer.faults).toEqual([]);
        }
        const counts = await Promise.all(scene.cluster.gateways.map(({ address }) => connectionsOf(address)));
        expect(counts).toEqual([2, 2]);
      });

      test('tells the server the address of the client, whatever the client says of it', async () => {
        for (let count = 0; count < PER_ADDRESS; count += 1) await view('127.0.0.2');
        const headers = { 'x-forwarded-for': '192.0.2.77' };
        const { status, body } = await refused(view('127.0.0.2', { headers }));
        expect([status, body]).toEqual([429, expect.stringContaining('address')]);
        await view('127.0.0.3', { headers: { 'x-forwarded-for': '127.0.0.2' } });
      });

      test('answers with HSTS once, over https only, and shows no metrics', async () => {
        const paths = { '/health/live': 200, '/v1/alerts': 401, '/nothing': 404 };
        for (const [path, status] of Object.entries(paths)) {
          expect(await headOf(`${scene.proxy.base}${path}`, agent)).toEqual({ status, hsts: [HSTS] });
        }
        expect((await headOf(`${scene.proxy.base}/metrics`, agent)).status).toBe(404);
        const refusal = await refused(view('127.0.0.2', { token: 'x.y.z' }));
        expect([refusal.status, refusal.headers['strict-transport-security']]).toEqual([401, HSTS]);
        const plain = await call(`http://127.0.0.1:${scene.proxy.httpPort}/health/live?a=b`, {
          headers: { host: 'tocsin.example.org' },
        });
        expect([301, 308]).toContain(plain.status);
        expect(plain.headers).not.toHaveProperty('strict-transport-security');
        expect(String(plain.headers['location'])).toMatch(/^https:\/\/tocsin\.example\.org.*\/health\/live\?a=b$/);
      });
    });

    describe('when things change', () => {
      beforeEach(open);
      afterEach(close);

      test('writes no ticket and no token into a log, also when no server can be reached', async () => {
        const { token } = scene.cluster;
        const answer = await postJson(`${scene.cluster.gateways[0]?.address}/v1/auth/ticket`, {}, { token });
        const ticket = String(answer.body?.['ticket']);
        await view('127.0.0.2', { query: `?ticket=${ticket}` });
        await view('127.0.0.3', { protocols: ['tocsin.v1', `bearer.${token}`] });
        await scene.cluster.stop();
        const secret = 'a-ticket-for-nobody';
        const { status } = await refused(view('127.0.0.2', { query: `?ticket=${secret}` }));
        expect([502, 503]).toContain(status);
        away(await call(`${scene.proxy.base}/v1/alerts`, { agent }));
        for (const viewer of viewers) await viewer.close();
        await expect.poll(() => scene.proxy.logs().split('/ws/alerts').length - 1).toBeGreaterThanOrEqual(3);
        for (const text of [ticket, secret, token.slice(-40)]) expect(scene.proxy.logs().includes(text)).toBe(false);
      });

      test('moves the viewers of a server that ends to the other one, which has everything for them', async () => {
        const froms = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];
        const all = await Promise.all(froms.map((from) => view(from)));
        const before = await drill();
        await Promise.all(all.map((viewer) => hears(viewer, before)));
        const [ending] = scene.cluster.gateways;
        const drained = ending?.drain();
        const ends = all.map((viewer) => viewer.closed);
        const moved: { viewer: ScriptedViewer; from: string }[] = [];
        await Promise.all(
          all.map(async (viewer, index) => {
            const moving = await Promise.race([
              viewer.until(({ type }) => type === 'moving').catch(() => null),
              drained,
            ]);
            if (typeof moving === 'object' && moving !== null) moved.push({ viewer, from: froms[index] ?? '' });
          }),
        );
        await drained;
        expect(moved).toHaveLength(2);
        const meanwhile = await drill();
        for (const { viewer, from } of moved) {
          expect(await ends[all.indexOf(viewer)]).toMatchObject({ code: 1001 });
          const again = await view(from, { resume: viewer.resumePoint() });
          expect(again.welcome['recovered']).toBe(true);
          await hears(again, meanwhile);
          expect(again.channel()).toHaveLength(1);
        }
        for (const viewer of all) if (!moved.some((one) => one.viewer === viewer)) await hears(viewer, meanwhile);
      });

      more(() => scene);
    });
  });
}

async function connectionsOf(address: string): Promise<number> {
  const text = await (await fetch(`${address}/metrics`)).text();
  const line = /^tocsin_websocket_connections\{path="\/ws\/alerts"\} (\d+)$/m.exec(text);
  return Number(line?.[1] ?? 0);
}

/** Status and every HSTS header of an answer. */
async function headOf(url: string, agent: Agent): Promise<{ status: number | undefined; hsts: string[] }> {
  const [response] = (await once(request(url, { agent }).end(), 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  const { rawHeaders, statusCode: status } = response;
  const hsts = rawHeaders.filter((_, index) => rawHeaders[index - 1]?.toLowerCase() === 'strict-transport-security');
  return { status, hsts };
}
