import { type MosquittoServer, startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { afterEach, expect, it } from 'vitest';
import { endAll, later, noting, publisher, startLink, textOf, until } from './link-system.suite.ts';
import type { MqttVerdict } from './message.ts';

afterEach(endAll);

async function broker(lines: readonly string[] = [], persistence = false): Promise<MosquittoServer> {
  const started = await startMosquitto(() => ['allow_anonymous true', ...lines], { persistence });
  later(() => started.stop());
  return started;
}

describeWith(['mosquitto'], 'the link to a broker', () => {
  it('takes what is published, each once while nothing fails, and says that it is connected', async () => {
    const { port } = await broker();
    const { take, seen } = noting();
    const link = startLink({ port }, take);
    await until(() => link.connected());
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 500 }, (_, n) => send(`devices/h${n % 7}/metrics`, String(n))));
    await until(() => seen.size === 500);
    expect([...seen.values()].every((count) => count === 1)).toBe(true);
    expect(link.lines.map(({ message }) => message)).toEqual(['mqtt: connected to the broker']);
    expect(link.lines[0]).toMatchObject({ version: '5', client: 'tocsin-0123456789ab-0', keepsSeconds: 604_800 });
    expect(await link.metrics()).toContain('tocsin_mqtt_link_messages_total{kind="fresh"} 500');
  });

  it('acknowledges nothing before it was taken: after a crash the broker brings all of it again', async () => {
    const { port } = await broker();
    const blocked: string[] = [];
    const first = startLink({ port }, (message) => {
      blocked.push(textOf(message));
      return new Promise<MqttVerdict>(() => undefined);
    });
    await until(() => first.connected());
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 50 }, (_, n) => send('devices/h1/metrics', String(n))));
    await until(() => blocked.length === 50);
    await first.stop(50);
    const { take, seen } = noting();
    const second = startLink({ port }, take);
    await until(() => seen.size === 50);
    expect(await second.metrics()).toContain('tocsin_mqtt_link_messages_total{kind="redelivered"} 50');
  });
});
