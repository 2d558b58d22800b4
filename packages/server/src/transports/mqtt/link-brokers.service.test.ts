import { writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { createAuthority, LOCAL_NAMES, type TestCertificate } from '@tocsin/testkit/certificates';
import { type MosquittoServer, passwordLines, startMosquitto, tlsLines } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { freePort } from '@tocsin/testkit/server-process';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import {
  endAll,
  later,
  memorySlots,
  noting,
  oldBroker,
  publisher,
  startLink,
  type TestLink,
  until,
} from './link-system.suite.ts';

afterEach(endAll);

async function broker(lines: (folder: string) => readonly string[]): Promise<MosquittoServer> {
  const started = await startMosquitto(lines);
  later(() => started.stop());
  return started;
}

/** The first line about a failure. */
async function failureOf(link: TestLink): Promise<TestLink['lines'][number] | undefined> {
  await until(() => link.lines.some(({ level }) => level === 'warn'));
  expect(link.connected()).toBe(false);
  return link.lines.find(({ level }) => level === 'warn');
}

describeWith(['mosquitto'], 'the link over TLS', () => {
  const ours = createAuthority('ours');
  const other = createAuthority('other');
  afterAll(() => {
    ours.remove();
    other.remove();
  });
  const server = (content: object = {}): TestCertificate => ours.issue({ names: LOCAL_NAMES, ...content });
  const client = ours.issue({ subject: '/CN=tocsin' });
  const files = { tls: true, caFile: ours.caFile, certFile: client.certFile, keyFile: client.keyFile };

  it('shows its certificate, and is let in under its name', async () => {
    const { port } = await broker((folder) => {
      writeFileSync(join(folder, 'acl'), 'user tocsin\ntopic readwrite devices/#\n', { mode: 0o644 });
      return [...tlsLines(folder, server(), ours.ca), `acl_file ${folder}/acl`];
    });
    const { take, seen } = noting();
    const link = startLink({ port, host: 'localhost', ...files }, take);
    await until(() => link.connected());
    const { send } = await publisher(port, { protocol: 'mqtts', ca: ours.ca, cert: client.cert, key: client.key });
    await send('devices/h1/metrics', 'x');
    await until(() => seen.size === 1);
  });

  it('does not let small packets wait on its socket', async () => {
    const { port } = await broker((folder) => ['allow_anonymous true', ...tlsLines(folder, server())]);
    const noDelay = vi.spyOn(Socket.prototype, 'setNoDelay');
    later(() => noDelay.mockRestore());
    const link = startLink({ port, ...files }, noting().take);
    await until(() => link.connected());
    expect(noDelay.mock.calls).toEqual([[true]]);
  });

  it.each([
    ['of another authority', () => other.issue({ names: LOCAL_NAMES })],
    ['for another name', () => server({ names: ['DNS:elsewhere.example'], subject: '/CN=elsewhere.example' })],
    ['that has expired', () => server({ days: -1 })],
  ])('does not speak to a broker with a certificate %s', async (_, certificate) => {
    const { port } = await broker((folder) => ['allow_anonymous true', ...tlsLines(folder, certificate())]);
    const link = startLink({ port, ...files }, noting().take);
    expect(await failureOf(link)).toMatchObject({ reason: 'tls', port });
  });

  it('says that it is about the certificate when the broker does not take ours, or misses one', async () => {
    const running = await broker((folder) => tlsLines(folder, server(), ours.ca));
    const stranger = other.issue({ subject: '/CN=tocsin' });
    const wrong = { certFile: stranger.certFile, keyFile: stranger.keyFile };
    for (const own of [wrong, { certFile: null, keyFile: null }]) {
      const link = startLink({ port: running.port, ...files, ...own }, noting().take);
      expect(await failureOf(link)).toMatchObject({ reason: 'tls' });
    }
  });

  it('reads its files anew for each connection', async () => {
    const { port } = await broker((folder) => ['allow_anonymous true', ...tlsLines(folder, server())]);
    const caFile = `${ours.caFile}.new`;
    const link = startLink({ port, ...files, caFile }, noting().take);
    expect(await failureOf(link)).toMatchObject({ reason: 'files' });
    writeFileSync(caFile, other.ca);
    await until(() => link.lines.some(({ reason }) => reason === 'tls'));
    writeFileSync(caFile, ours.ca);
    await until(() => link.connected());
  });

  it('does not take a broker without TLS for one', async () => {
    const { port } = await broker(() => ['allow_anonymous true']);
    const link = startLink({ port, ...files }, noting().take, { times: { connectMs: 1000 } });
    expect(await failureOf(link)).toMatchObject({ reason: expect.stringMatching(/^(tls|closed)$/) });
  });
});

describeWith(['mosquitto'], 'the link with a user name', () => {
  it('says that the password is wrong, never the password, and goes on trying; with the right one messages come', async () => {
    const { port } = await broker((folder) => passwordLines(folder, 'tocsin', 'right-secret'));
    const wrong = startLink({ port, username: 'tocsin', password: 'wrong-secret' }, noting().take);
    expect(await failureOf(wrong)).toMatchObject({
      reason: 'refused',
      detail: expect.stringContaining('check MQTT_USERNAME, MQTT_PASSWORD'),
    });
    await until(async () => /reconnects_total\{reason="refused"\} [3-9]/.test(await wrong.metrics()));
    expect(wrong.lines).toHaveLength(1);
    expect(JSON.stringify(wrong.lines)).not.toContain('secret');
    const login = { username: 'tocsin', password: 'right-secret' };
    for (const reached of [port, await oldBroker(port, 'return-code')]) {
      const { take, seen } = noting();
      const slots = { ...memorySlots(), installation: async () => `at-${reached}` };
      const link = startLink({ port: reached, ...login }, take, { slots });
      await until(() => link.connected());
      const { send } = await publisher(port, login);
      await send('devices/h1/metrics', 'x');
      await until(() => seen.size === 1);
      await link.stop();
    }
  });

  it('may have no password', async () => {
    const { port } = await broker((folder) => {
      const rules = 'topic write devices/#\nuser tocsin\ntopic read devices/#\n';
      writeFileSync(join(folder, 'acl'), rules, { mode: 0o644 });
      return ['allow_anonymous true', `acl_file ${folder}/acl`];
    });
    const { take, seen } = noting();
    const link = startLink({ port, username: 'tocsin' }, take);
    await until(() => link.connected());
    const { send } = await publisher(port);
    await send('devices/h1/metrics', 'x');
    await until(() => seen.size === 1);
  });
});

describeWith(['mosquitto'], 'the link and what brokers answer', () => {
  it.each(['return-code', 'reason-code', 'silence'] as const)(
    'speaks 3.1.1 with a broker that refuses MQTT 5 by %s, and remembers it',
    async (how) => {
      const { port } = await broker(() => ['allow_anonymous true']);
      const { take, seen } = noting();
      const link = startLink({ port: await oldBroker(port, how) }, take);
      await until(() => link.connected());
      expect(link.lines.at(-1)).toMatchObject({ version: '3.1.1' });
      const { send } = await publisher(port);
      await send('devices/h1/metrics', 'x');
      await until(() => seen.size === 1);
    },
  );

  it('says which topics a broker does not let it subscribe to, and goes on when it may', async () => {
    let rules = '';
    const allow = (subscribe: boolean): void => {
      const access = { publishClientSend: true, publishClientReceive: true, subscribe, unsubscribe: true };
      const text = JSON.stringify({ defaultACLAccess: access, clients: [], groups: [], roles: [] });
      writeFileSync(rules, text, { mode: 0o666 });
    };
    const running = await broker((folder) => {
      rules = join(folder, 'rules.json');
      allow(false);
      const plugin = 'plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so';
      return ['allow_anonymous true', plugin, `plugin_opt_config_file ${rules}`];
    });
    const { port } = running;
    const link = startLink({ port }, noting().take);
    expect(await failureOf(link)).toMatchObject({
      reason: 'subscribe',
      detail: 'the broker does not grant devices/+/metrics (reason code 0x87), devices/+/readings (reason code 0x87)',
    });
    await running.kill();
    allow(true);
    await running.restart();
    await until(() => link.connected());
  });

  it('does not accept QoS 0 for its subscriptions', async () => {
    const { port } = await broker(() => ['allow_anonymous true', 'max_qos 0']);
    const link = startLink({ port }, noting().take);
    expect(await failureOf(link)).toMatchObject({ reason: 'subscribe', detail: expect.stringContaining('QoS 0 only') });
  });

  it('says when the broker refuses it, or is not there, and keeps trying', async () => {
    const { port } = await broker(() => ['allow_anonymous false']);
    const link = startLink({ port }, noting().take);
    expect(await failureOf(link)).toMatchObject({ reason: 'refused', detail: expect.stringContaining('135') });
    const nobody = startLink({ port: await freePort() }, noting().take);
    expect(await failureOf(nobody)).toMatchObject({ reason: 'unreachable' });
    await until(async () => /reconnects_total\{reason="unreachable"\} [3-9]/.test(await nobody.metrics()));
    expect(nobody.lines).toHaveLength(1);
  });

  it('does not take retained messages: they are old', async () => {
    const { port } = await broker(() => ['allow_anonymous true']);
    const { client, send } = await publisher(port);
    await client.publishAsync('devices/h1/metrics', 'old', { qos: 1, retain: true });
    const { take, seen } = noting();
    const link = startLink({ port: await oldBroker(port, 'return-code') }, take);
    await until(() => link.connected());
    // Retained too, but it comes now.
    await client.publishAsync('devices/h2/metrics', 'new', { qos: 1, retain: true });
    await send('devices/h3/metrics', 'new');
    await until(() => seen.size === 2);
    expect([...seen.keys()].sort()).toEqual(['devices/h2/metrics new', 'devices/h3/metrics new']);
    await until(async () => (await link.metrics()).includes('messages_total{kind="retained"} 1'));
  });

  it('gets no further for a message that is too large, in neither version, and goes on with the next', async () => {
    const { port } = await broker(() => ['allow_anonymous true']);
    const { take, seen } = noting();
    const link = startLink({ port: await oldBroker(port, 'return-code') }, take);
    const five = noting();
    const other = startLink({ port }, five.take, { slots: { ...memorySlots(), installation: async () => 'another' } });
    await until(() => link.connected() && other.connected());
    const { send } = await publisher(port);
    await send('devices/h1/metrics', 'before');
    await send('devices/h1/metrics', Buffer.alloc(3_000_000));
    await send('devices/h1/metrics', Buffer.alloc(1_000_000));
    await send('devices/h1/metrics', 'after');
    for (const { seen: found } of [{ seen }, five]) {
      await until(() => found.size === 2);
      expect([...found.keys()]).toEqual(['devices/h1/metrics before', 'devices/h1/metrics after']);
    }
    expect(await link.metrics()).toContain('messages_total{kind="oversize"} 2');
    expect(link.unread).toEqual(['body-too-large h1', 'body-too-large h1']);
    // In MQTT 5 the broker knows what is far too large for us, and drops it.
    expect(other.unread).toEqual(['body-too-large h1']);
    expect(await link.metrics()).not.toContain('reconnects_total{reason="protocol"}');
  });

  it('takes messages of QoS 0, and hands the trace of an MQTT 5 message on', async () => {
    const { port } = await broker(() => ['allow_anonymous true']);
    const traces: (string | null)[] = [];
    const link = startLink({ port }, async ({ traceparent }) => {
      traces.push(traceparent);
      return { kind: 'acknowledge' };
    });
    await until(() => link.connected());
    const { client } = await publisher(port, { protocolVersion: 5 });
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    client.publish('devices/h1/metrics', 'x', { qos: 0, properties: { userProperties: { traceparent } } });
    client.publish('devices/h1/metrics', 'x', { qos: 0 });
    await until(() => traces.length === 2);
    expect(traces).toEqual([traceparent, null]);
  });
});

describe('the link and a broker that is none', () => {
  it('ends a connection that brings nonsense', async () => {
    const { createServer } = await import('node:net');
    const liar = createServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    later(() => liar.close());
    await new Promise<void>((resolve) => liar.listen(0, '127.0.0.1', resolve));
    const link = startLink({ port: (liar.address() as { port: number }).port }, noting().take);
    expect(await failureOf(link)).toMatchObject({ reason: 'unanswered' });
  });
});
