/** Client certificates on WebSocket handshakes of whole servers: two gateways with TLS on one bus. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { get, globalAgent } from 'node:https';
import type { ClientOptions } from 'ws';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type CertificateContent, createAuthority, LOCAL_NAMES, type TestAuthority } from './certificates.ts';
import { startTestCluster, type TestCluster } from './cluster-app.ts';
import { newPerson, type Person, signInAs } from './contract-viewer.ts';
import { call, createDevice, postJson } from './device.ts';
import { describeWith } from './needs.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { connectViewer, HandshakeRefused, type ScriptedViewer, type ViewerOptions } from './viewer.ts';

const PUBLIC_URL = 'https://tocsin.example';
const REAUTHENTICATE_SECONDS = 600;

describeWith(['redis'], 'a client certificate on a handshake', () => {
  let authority: TestAuthority;
  let foreign: TestAuthority;
  let redis: RedisServer;
  let cluster: TestCluster;
  let bases: readonly string[];
  let ann: Person & { readonly id: string };
  const viewers: ScriptedViewer[] = [];

  beforeAll(async () => {
    authority = createAuthority();
    foreign = createAuthority('foreign');
    const { certFile, keyFile } = authority.issue({ names: LOCAL_NAMES });
    globalAgent.options.ca = authority.ca;
    redis = await startRedis();
    const environment = {
      PUBLIC_URL,
      TLS_CERT: certFile,
      TLS_KEY: keyFile,
      TLS_CLIENT_CA: authority.caFile,
      WS_MAX_CONNECTIONS_PER_USER: '10',
      WS_RECONNECTS_PER_MINUTE: '1000',
      WS_REAUTHENTICATE_SECONDS: String(REAUTHENTICATE_SECONDS),
      WS_ALLOW_QUERY_TOKEN: 'true',
    };
    cluster = await startTestCluster({ gateways: 2, workers: 1, redis, environment });
    bases = cluster.gateways.map(({ address }) => address);
    ann = await addPerson();
    const device = createDevice('d1');
    const body = { id: 'd1', profile: 'seismic', publicKey: device.publicKeyPem };
    expect((await postJson(`${bases[0]}/v1/devices`, body, { token: cluster.token })).status).toBe(201);
  });
  afterEach(() => {
    for (const viewer of viewers.splice(0)) viewer.cut();
  });
  afterAll(async () => {
    await cluster?.stop();
    await redis?.stop();
    for (const one of [authority, foreign]) one?.remove();
    delete globalAgent.options.ca;
  });

  async function addPerson(): Promise<Person & { readonly id: string }> {
    const person = await newPerson(bases[0] ?? '', cluster.token);
    const list = await call(`${bases[0]}/v1/users?limit=500`, {
      headers: { authorization: `Bearer ${cluster.token}` },
    });
    const items = list.body?.['items'] as { id: string; email: string }[];
    const id = items.find(({ email }) => email === person.email)?.id ?? '';
    return { ...person, id };
  }
  const certified = (content: CertificateContent, from: TestAuthority = authority): ClientOptions => {
    const { cert, key } = from.issue({ usage: 'clientAuth', subject: '/CN=somebody', ...content });
    return { cert, key };
  };
  async function view(
    client: ClientOptions,
    options: ViewerOptions & { query?: string; at?: number } = {},
  ): Promise<ScriptedViewer> {
    const { query = '', at = 0, ...rest } = options;
    const url = `${(bases[at] ?? '').replace('https', 'wss')}/ws/alerts${query}`;
    const viewer = await connectViewer(url, { ...rest, client: { ...client, ca: authority.ca } });
    viewers.push(viewer);
    return viewer;
  }
  async function refusal(attempt: Promise<unknown>): Promise<string> {
    const error: unknown = await attempt.then(
      () => new Error('it was let in'),
      (reason: unknown) => reason,
    );
    if (!(error instanceof HandshakeRefused)) throw error;
    expect(error.headers['strict-transport-security']).toBe('max-age=31536000');
    return `${error.status} ${(JSON.parse(error.body) as { code: string }).code}`;
  }
  const ofAnn = (): ClientOptions => certified({ names: [`email:${ann.email}`] });

  test('is a credential of the user that it names, until WS_REAUTHENTICATE_SECONDS have passed', async () => {
    const before = Date.now();
    for (const names of [[`email:${ann.email}`], [`URI:urn:tocsin:user:${ann.id}`]]) {
      const { welcome } = await view(certified({ names }));
      const left = Number(welcome['reauthenticateBy']) - before;
      expect(left).toBeGreaterThan((REAUTHENTICATE_SECONDS - 5) * 1000);
      expect(left).toBeLessThan((REAUTHENTICATE_SECONDS + 60) * 1000);
    }
    await view(certified({ subject: `/CN=${ann.email}` }), { at: 1 });
  });

  test('may be followed by tokens of the same user on the open connection, and by no other', async () => {
    const viewer = await view(ofAnn());
    viewer.send({ type: 'authenticate', token: ann.token });
    await viewer.until(({ type }) => type === 'authenticated');
    viewer.send({ type: 'authenticate', token: cluster.token });
    expect((await viewer.closed).code).toBe(1008);
  });

  test.each<[string, () => ClientOptions, string]>([
    ['names nobody', () => certified({ subject: '/CN=nobody@example.org' }), '401 credentials-wrong'],
    [
      'names two',
      () => certified({ names: [`email:${ann.email}`, 'URI:urn:tocsin:device:d1'] }),
      '401 credentials-wrong',
    ],
    ['is of another CA', () => certified({ names: [`email:${ann.email}`] }, foreign), '401 credentials-wrong'],
    ['has expired', () => certified({ names: [`email:${ann.email}`], days: -1 }), '401 credentials-wrong'],
    [
      'is for servers',
      () => certified({ names: [`email:${ann.email}`], usage: 'serverAuth' }),
      '401 credentials-wrong',
    ],
    ['is that of a device', () => certified({ names: ['URI:urn:tocsin:device:d1'] }), '403 role-insufficient'],
  ])('that %s is refused', async (_what, client, answer) => {
    expect(await refusal(view(client()))).toBe(answer);
  });

  test('decides after the headers and before cookie, ticket and query', async () => {
    const { cookie } = await signInAs(bases[0] ?? '', ann, { session: 'cookie' });
    const session = { cookie: cookie.split(';')[0] ?? '', origin: PUBLIC_URL };
    const bad = certified({ names: [`email:${ann.email}`] }, foreign);
    const good = ofAnn();
    const ticket = async (): Promise<string> => {
      const answer = await postJson(`${bases[0]}/v1/auth/ticket`, {}, { token: ann.token });
      return `?ticket=${String(answer.body?.['ticket'])}`;
    };
    // A good header before a bad certificate, and a bad header before a good one.
    await view(bad, { token: ann.token });
    await view(bad, { protocols: ['tocsin.v1', `bearer.${ann.token}`] });
    expect(await refusal(view(good, { token: 'x.y.z' }))).toBe('401 token-invalid');
    expect(await refusal(view(good, { protocols: ['tocsin.v1', 'bearer.x.y.z'] }))).toBe('401 token-invalid');
    // A bad certificate before good ones of the other carriers, and a good one before bad ones.
    expect(await refusal(view(bad, { headers: session }))).toBe('401 credentials-wrong');
    expect(await refusal(view(bad, { query: await ticket() }))).toBe('401 credentials-wrong');
    expect(await refusal(view(bad, { query: `?token=${ann.token}` }))).toBe('401 credentials-wrong');
    await view(good, { headers: { ...session, cookie: 'tocsin_session=x.y.z' } });
    await view(good, { query: '?ticket=unknown' });
    await view(good, { query: '?token=x.y.z' });
    // And without a certificate they count as ever.
    await view({}, { headers: session });
    await view({}, { query: await ticket() });
    await view({}, { query: `?token=${ann.token}` });
    expect(await refusal(view({}))).toBe('401 credentials-missing');
  });

  test('is not taken from a header that a proxy might send', async () => {
    const { cert } = ofAnn();
    const value = encodeURIComponent(String(cert));
    const headers = {
      'x-ssl-client-cert': value,
      'x-forwarded-client-cert': `Cert="${value}"`,
      'ssl-client-verify': 'SUCCESS',
    };
    expect(await refusal(view({}, { headers }))).toBe('401 credentials-missing');
  });

  test('lets nobody in whose user is disabled, and closes with 4004 at another gateway when the user is disabled, changed or removed', async () => {
    const ben = await addPerson();
    const client = certified({ names: [`URI:urn:tocsin:user:${ben.id}`] });
    const url = `${bases[0]}/v1/users/${ben.id}`;
    const act = async (method: string, body?: object): Promise<void> => {
      const headers = { authorization: `Bearer ${cluster.token}`, 'content-type': 'application/json' };
      const answer = await call(url, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      expect([200, 204]).toContain(answer.status);
    };
    const closedBy = async (change: () => Promise<void>): Promise<number> => {
      const viewer = await view(client, { at: 1 });
      await change();
      return (await viewer.closed).code;
    };
    expect(await closedBy(() => act('PATCH', { email: `new-${ben.email}` }))).toBe(4004);
    expect(await closedBy(() => act('PATCH', { disabled: true }))).toBe(4004);
    expect(await refusal(view(client, { at: 1 }))).toBe('403 role-insufficient');
    await act('PATCH', { disabled: false });
    expect(await closedBy(() => act('DELETE'))).toBe(4004);
    expect(await refusal(view(client, { at: 1 }))).toBe('401 credentials-wrong');
  });

  test('is in the metrics of its listener: when the certificate ends, in Unix seconds', async () => {
    const [response] = (await once(get(`${bases[0]}/metrics`), 'response')) as [IncomingMessage];
    const answer = Buffer.concat((await response.toArray()) as Buffer[]).toString();
    const [, seconds] = /^tocsin_tls_certificate_expiry_seconds\{listener="http"\} ([0-9.e+]+)$/m.exec(answer) ?? [];
    const days = (Number(seconds) * 1000 - Date.now()) / 86_400_000;
    expect(Math.round(days)).toBe(30);
  });
});
