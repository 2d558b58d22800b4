import { connect as dialTls, type PeerCertificate } from 'node:tls';
import { readFileSync } from 'node:fs';
import { createAuthority, LOCAL_NAMES, type TestAuthority } from '@tocsin/testkit/certificates';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect, type MqttClient } from 'mqtt';
import {
  type BrokerUnderTest,
  closing,
  KEY,
  type MovedClock,
  movedClock,
  outcome,
  startBroker,
} from './embedded-system.suite.ts';

let authority: TestAuthority;
let system: BrokerUnderTest;
let clock: MovedClock;
const clients: MqttClient[] = [];

const filesOf = (name: string): { cert: Buffer; key: Buffer } => {
  const { certFile, keyFile } = authority.issue({ subject: `/CN=${name}`, names: LOCAL_NAMES });
  return { cert: readFileSync(certFile), key: readFileSync(keyFile) };
};

beforeEach(async () => {
  authority = createAuthority();
  clock = movedClock();
  system = await startBroker({ clock, tls: filesOf('one') });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true);
  await system.stop();
  authority.remove();
});

function secure(): MqttClient {
  const client = connect(`mqtts://localhost:${system.port}`, {
    ca: authority.ca,
    username: 'anybody',
    password: KEY,
    reconnectPeriod: 0,
    protocolVersion: 4,
  });
  clients.push(client);
  return client;
}

const shown = (): Promise<PeerCertificate> =>
  new Promise((resolve, reject) => {
    const socket = dialTls({ port: system.port, host: 'localhost', ca: authority.ca, servername: 'localhost' }, () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    });
    socket.on('error', reject);
  });

test('the embedded broker speaks TLS; new certificates count from the next connection on, and open ones stay', async () => {
  const client = secure();
  expect(await outcome(client)).toBe('connect');
  await client.publishAsync('devices/h1/metrics', '1', { qos: 1 });
  expect((await shown()).subject.CN).toBe('one');
  system.broker.replaceCertificates(filesOf('two'));
  expect((await shown()).subject.CN).toBe('two');
  await client.publishAsync('devices/h1/metrics', '2', { qos: 1 });
  expect(system.taken).toHaveLength(2);
});

test('plain MQTT, and silence, get nowhere on a port of TLS', async () => {
  const plain = system.client();
  await closing(plain);
  expect(system.counts.get('refused tls')).toBe(1);
  const silent = system.raw();
  await new Promise((resolve) => silent.socket.once('connect', resolve));
  // It is known once another one, that came after it, is.
  await shown();
  clock.move(5000);
  expect(await silent.closed).toHaveLength(0);
  expect(system.broker.connections()).toBe(0);
});
