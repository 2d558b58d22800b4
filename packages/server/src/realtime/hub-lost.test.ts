import { expect, it } from 'vitest';
import { createMemoryBus } from '../bus/memory/bus.ts';
import { createHub } from './hub.ts';
import { createScriptedSink, createScriptedStore } from './scripted-sink.suite.ts';

it('closes with 1013 who was let in to resume when what they missed cannot be read', async () => {
  const clock = { now: () => 1_000_000, monotonic: () => 1_000_000 };
  const bus = createMemoryBus({ clock });
  const store = createScriptedStore();
  for (let n = 0; n < 3000; n++) store.append();
  const options = { channel: 'alerts', watermarkSeconds: 10, pollMs: 3_600_000, ringMessages: 8 };
  const hub = createHub({ ...options, store, pubsub: bus.pubsub, clock });
  await hub.start();
  const plan = await hub.plan({ epoch: 'e1', offset: 0 });
  if ('code' in plan) throw new Error(plan.code);
  store.away = true;
  const sink = createScriptedSink();
  const welcome = { connection: 'c', heartbeatSeconds: 30, reauthenticateBy: 1 };
  hub.attach(sink, plan, { zone: null, minSeverity: null }, welcome);
  for (let n = 0; n < 100; n++) await new Promise((resolve) => setImmediate(resolve));
  expect(sink.closed).toMatchObject({ code: 1013 });
  const seen = sink.messages().flatMap(({ type, offset }) => (type === 'alert' ? [offset] : []));
  // What came before is whole, from the first on.
  expect(seen).toEqual(seen.map((_, i) => i + 1));
  expect(hub.viewers()).toBe(0);
  await hub.stop();
  await bus.close();
});
