/**
 * What the link relies on in the library `mqtt` beyond its documentation. When a test here fails with a new version,
 * `link-connection.ts` must change before that version is used.
 */
import { createServer, type Socket } from 'node:net';
import { connect } from 'node:net';
import { generate, type Packet, parser } from 'mqtt-packet';
import { MqttClient } from 'mqtt';
import { afterEach, describe, expect, it } from 'vitest';
import { endAll, later, until } from './link-system.suite.ts';

afterEach(endAll);

/** A broker of the test: answers CONNECT, sends what it is told to, notes what it gets. */
async function scripted(version: 4 | 5): Promise<{ client: MqttClient; got: Packet[]; send(packet: object): void }> {
  const got: Packet[] = [];
  let peer: Socket | undefined;
  const send = (packet: object): void => void peer?.write(generate(packet as Packet, { protocolVersion: version }));
  const server = createServer((socket) => {
    peer = socket;
    const read = parser({ protocolVersion: version });
    socket.on('error', () => undefined).on('data', (chunk: Buffer) => read.parse(chunk));
    read.on('packet', (packet) => {
      got.push(packet);
      if (packet.cmd === 'connect') send({ cmd: 'connack', returnCode: 0, reasonCode: 0, sessionPresent: false });
    });
  });
  later(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const options = { protocolVersion: version, reconnectPeriod: 0, timerVariant: 'native' as const };
  const client = new MqttClient(() => connect(port, '127.0.0.1'), options);
  client.on('error', () => undefined);
  later(() => {
    client.end(true);
    peer?.destroy();
  });
  return { client, got, send };
}

const message = (messageId: number): object => ({
  ...{ cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId, dup: false, retain: false },
});

describe.each([4, 5] as const)('the library, MQTT %i', (version) => {
  it('sends no PUBACK when handleMessage calls back with an error, and goes on with the next message at once', async () => {
    const { client, got, send } = await scripted(version);
    const handled: number[] = [];
    client.handleMessage = (packet, done) => {
      handled.push(packet.messageId ?? 0);
      done(new Error('acknowledged later'));
    };
    await until(() => client.connected);
    for (let n = 1; n <= 3; n += 1) send(message(n));
    await until(() => handled.length === 3);
    client.sendPing();
    await until(() => got.some(({ cmd }) => cmd === 'pingreq'));
    expect(got.map(({ cmd }) => cmd)).toEqual(['connect', 'pingreq']);
    expect(client.connected).toBe(true);
  });

  it('brings no message before handleMessage called back for the one before', async () => {
    const { client, send } = await scripted(version);
    const handled: number[] = [];
    let next: () => void = () => undefined;
    client.handleMessage = (packet, done) => {
      handled.push(packet.messageId ?? 0);
      next = () => done(new Error('acknowledged later'));
    };
    await until(() => client.connected);
    for (let n = 1; n <= 3; n += 1) send(message(n));
    await until(() => handled.length === 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(handled).toEqual([1]);
    next();
    await until(() => handled.length === 2);
    expect(handled).toEqual([1, 2]);
  });

  it('writes whole packets to the stream it was given, so that PUBACK may be written between them', async () => {
    const { client, got } = await scripted(version);
    await until(() => client.connected);
    client.sendPing();
    (client.stream as Socket).write(Buffer.from([0x40, 2, 1, 2]));
    client.subscribe('b', { qos: 1 });
    (client.stream as Socket).write(Buffer.from([0x40, 2, 3, 4]));
    await until(() => got.length === 5);
    expect(got.map(({ cmd, messageId }) => [cmd, messageId]).filter(([cmd]) => cmd === 'puback')).toEqual([
      ['puback', 0x0102],
      ['puback', 0x0304],
    ]);
  });
});
