import { afterEach, expect, it } from 'vitest';
import { createMemoryBus } from '../bus/memory/bus.ts';
import type { Clock } from '../lib/clock.ts';
import { createHub, type Hub } from './hub.ts';
import { createScriptedSink, createScriptedStore, type ScriptedSink } from './scripted-sink.suite.ts';

let hub: Hub | null = null;
afterEach(async () => {
  await hub?.stop();
});

it('a resume ends with a watermark only while the reading behind it is young: none while the store is away', async () => {
  let time = 1_000_000;
  const clock: Clock = { now: () => time, monotonic: () => time };
  const store = createScriptedStore();
  store.append();
  store.append();
  const bus = createMemoryBus({ clock });
  await bus.close();
  const { pubsub } = bus;
  const made = createHub({ channel: 'alerts', store, pubsub, clock, watermarkSeconds: 10, pollMs: 100_000 });
  hub = made;
  await made.start();
  const resume = async (): Promise<ScriptedSink> => {
    const sink = createScriptedSink();
    const plan = await made.plan({ epoch: 'e1', offset: 1 });
    if ('code' in plan) throw new Error(plan.code);
    made.attach(
      sink,
      plan,
      { zone: null, minSeverity: null },
      { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 },
    );
    return sink;
  };
  const types = (sink: ScriptedSink): string[] => sink.messages().map(({ type }) => type);
  time += 200_000;
  expect(types(await resume())).toEqual(['welcome', 'alert', 'watermark']);
  time += 1;
  expect(types(await resume())).toEqual(['welcome', 'alert']);
});

it('a fresh viewer is let in while the reading of the head is young, or by a new one: its welcome is a proof', async () => {
  let time = 1_000_000;
  const clock: Clock = { now: () => time, monotonic: () => time };
  const store = createScriptedStore();
  const { pubsub } = createMemoryBus({ clock });
  hub = createHub({ channel: 'alerts', store, pubsub, clock, watermarkSeconds: 10, pollMs: 100_000 });
  await hub.start();
  store.away = true;
  time += 100_000;
  expect(await hub.plan(null)).toMatchObject({ kind: 'fresh' });
  time += 900_000;
  expect(await hub.plan(null)).toMatchObject({ code: 'store-unavailable' });
  store.away = false;
  expect(await hub.plan(null)).toMatchObject({ kind: 'fresh' });
});
