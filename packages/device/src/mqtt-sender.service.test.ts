import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MosquittoServer, passwordLines, startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { startProxy } from '@tocsin/testkit/proxy';
import { freePort } from '@tocsin/testkit/server-process';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Device, openDevice } from './device.ts';
import { createMqttSender } from './mqtt-sender.ts';

const ends: (() => unknown)[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-mqtt-'));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
});

async function broker(lines?: (folder: string) => readonly string[]): Promise<MosquittoServer> {
  const started = await startMosquitto(lines);
  ends.push(() => started.stop());
  return started;
}

/** Ids of the envelopes that reach a subscriber. QoS 0: the broker writes them out before it sends their PUBACK. */
async function subscribe(port: number, heard: string[]): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  client.on('error', () => undefined);
  client.on('message', (topic, payload) => {
    expect(topic).toBe('devices/m1/readings');
    const [, content = ''] = payload.toString('utf8').split('.');
    heard.push((JSON.parse(Buffer.from(content, 'base64url').toString('utf8')) as { id: string }).id);
  });
  await client.subscribeAsync('devices/+/readings', { qos: 0 });
  ends.push(() => client.end(true));
  return client;
}

async function device(port: number, more: object = {}): Promise<Device> {
  const sender = createMqttSender({ broker: `mqtt://127.0.0.1:${port}`, id: 'm1', timeoutMs: 3000, ...more });
  const tuning = { inFlight: 16, backOffFirstMs: 20, backOffMostMs: 100, refusedFirstMs: 50, refusedMostMs: 100 };
  const opened = await openDevice({ id: 'm1', profile: 'seismic', folder, sender, ...tuning });
  ends.push(() => opened.close());
  return opened;
}

async function until(test: () => boolean): Promise<void> {
  for (let turn = 0; turn < 3000 && !test(); turn += 1) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(test()).toBe(true);
}

describeWith(['mosquitto'], 'envelopes over MQTT', () => {
  it('reach the broker, each once while nothing fails', async () => {
    const { port } = await broker();
    const heard: string[] = [];
    await subscribe(port, heard);
    const sending = await device(port);
    const ids = await Promise.all(Array.from({ length: 200 }, (_, value) => sending.report([{ at: 1, value }])));
    expect(await sending.flush(20_000)).toBe(true);
    await until(() => heard.length >= 200);
    expect(heard.toSorted()).toEqual(ids.flat().toSorted());
  });

  it('all reach the broker though it is killed three times in mid-stream; none is lost, few come twice', async () => {
    const server = await broker();
    // The device goes through a proxy, so that after a restart the subscriber is there first.
    const proxy = await startProxy({ port: server.port });
    ends.push(() => proxy.stop());
    const heard: string[] = [];
    await subscribe(server.port, heard);
    const sending = await device(proxy.port);
    const ids: string[] = [];
    let over = false;
    const reporting = (async () => {
      while (!over) ids.push(...(await sending.report([{ at: 1, value: ids.length }])));
    })();
    for (let kills = 1; kills <= 3; kills += 1) {
      const before = heard.length;
      await until(() => heard.length >= before + 100);
      await server.kill();
      proxy.cut();
      await server.restart();
      await subscribe(server.port, heard);
      proxy.heal();
    }
    over = true;
    await reporting;
    expect(await sending.flush(20_000)).toBe(true);
    await until(() => new Set(heard).size >= ids.length);
    expect([...new Set(heard)].toSorted()).toEqual(ids.toSorted());
    expect(heard.length - ids.length).toBeLessThanOrEqual(3 * 16);
    expect(sending.status()).toMatchObject({ delivered: ids.length, dropped: 0, deadLetters: 0, queued: 0 });
  });

  it('go on after a broker that was frozen: the wait for PUBACK ends', async () => {
    const server = await broker();
    const sending = await device(server.port, { timeoutMs: 300 });
    await sending.report([{ at: 1, value: 1 }]);
    expect(await sending.flush(20_000)).toBe(true);
    server.freeze();
    // As told, not as asked for: a wait may be over before the next look.
    const waits: unknown[] = [];
    sending.on('state', (state) => void ('reason' in state && waits.push(state)));
    await sending.report([{ at: 1, value: 2 }]);
    await until(() => waits.length > 0);
    expect(waits[0]).toMatchObject({ state: 'waiting', reason: 'timeout' });
    server.thaw();
    expect(await sending.flush(20_000)).toBe(true);
    expect(sending.status()).toMatchObject({ delivered: 2 });
  });

  it('wait in the state refused while the broker does not take the password, then go on', async () => {
    const { port } = await broker((where) => passwordLines(where, 'any', 'right'));
    const wrong = await device(port, { username: 'any', password: 'wrong' });
    await wrong.report([{ at: 1, value: 1 }]);
    await until(() => wrong.status().state.state === 'refused');
    expect(wrong.status()).toMatchObject({ state: { reason: 'broker-refused' }, queued: 1 });
    await wrong.close();
    const right = await device(port, { username: 'any', password: 'right' });
    expect(await right.flush(20_000)).toBe(true);
    expect(right.status()).toMatchObject({ delivered: 1 });
  });
});

describe('the MQTT sender', () => {
  it('answers by name when nobody listens, and when a port is silent', async () => {
    const nobody = createMqttSender({ broker: `mqtt://127.0.0.1:${await freePort()}`, id: 'm1' });
    expect(await nobody.send('x', 'e1')).toEqual({ kind: 'failed', reason: 'connection-refused' });
    await nobody.close();
    const silent = await startProxy({ port: 1 });
    ends.push(() => silent.stop());
    silent.halfOpen();
    const sender = createMqttSender({ broker: `mqtt://127.0.0.1:${silent.port}`, id: 'm1', timeoutMs: 200 });
    expect(await sender.send('x', 'e1')).toEqual({ kind: 'failed', reason: 'timeout' });
    await sender.close();
    expect(await sender.send('x', 'e1')).toEqual({ kind: 'failed', reason: 'connection-lost' });
  });

  it('closed while it connects lets go at once', async () => {
    const silent = await startProxy({ port: 1 });
    ends.push(() => silent.stop());
    silent.halfOpen();
    const sender = createMqttSender({ broker: `mqtt://127.0.0.1:${silent.port}`, id: 'm1', timeoutMs: 100_000 });
    const answer = sender.send('x', 'e1');
    await sender.close();
    expect(await answer).toEqual({ kind: 'failed', reason: 'connection-lost' });
  });

  it('asks the clock URL for the time, and nobody where there is none', async () => {
    const server = createServer((_request, response) => {
      response.writeHead(200, { date: 'Sat, 28 Nov 2026 12:00:00 GMT' }).end('{}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ends.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
    const clockUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/health/live`;
    const asking = createMqttSender({ broker: 'mqtt://127.0.0.1:1', id: 'm1', clockUrl });
    expect((await asking.askTime())?.date).toBe(Date.UTC(2026, 10, 28, 12));
    await asking.close();
    const silent = createMqttSender({ broker: 'mqtt://127.0.0.1:1', id: 'm1' });
    expect(await silent.askTime()).toBeNull();
    await silent.close();
  });

  it.each([
    ['mqtt://example.org', 'server-insecure'],
    ['http://127.0.0.1', 'option-invalid'],
    ['mqtts://user:secret@example.org', 'option-invalid'],
  ])('refuses the broker %s', (address, code) => {
    expect(() => createMqttSender({ broker: address, id: 'm1' })).toThrow(expect.objectContaining({ code }));
  });

  it.each(['', '/a', 'a/', 'a/+/b', '#'])('refuses the topic prefix %j', (topicPrefix) => {
    expect(() => createMqttSender({ broker: 'mqtts://x', id: 'm1', topicPrefix })).toThrow(
      expect.objectContaining({ code: 'option-invalid' }),
    );
  });
});
