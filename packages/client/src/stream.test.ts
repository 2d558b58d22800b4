import { expect, test } from 'vitest';
import { alertStream } from './stream.ts';
import { alertMessage, createWorld, watchFrom } from './world.suite.ts';

test('a loop gets alerts one by one; what it has not asked past is not handled yet', async () => {
  const world = createWorld();
  const heard = await watchFrom(world, 5);
  const got: number[] = [];
  const waits: (() => void)[] = [];
  const loop = (async () => {
    for await (const { offset } of alertStream(heard.alerts)) {
      got.push(offset);
      if (offset === 8) break;
      await new Promise<void>((resolve) => waits.push(resolve));
    }
  })();
  await world.settle();
  for (const offset of [6, 7, 8, 9]) world.newest().say(alertMessage(offset));
  await world.settle();
  expect(got).toEqual([6]);
  expect(world.newest().sent).toEqual([]);
  waits.shift()?.();
  await world.settle();
  expect(got).toEqual([6, 7]);
  expect(world.newest().sent).toEqual([{ type: 'received', offset: 6 }]);
  waits.shift()?.();
  await loop;
  await world.settle();
  expect(got).toEqual([6, 7, 8]);
  expect(heard.got.at(-1)).toBe('alert 9');
});

test('a loop ends when the viewer stops for good or is closed, and by its signal', async () => {
  for (const how of ['stopped', 'closed', 'signal'] as const) {
    const world = createWorld();
    const heard = await watchFrom(world, 5);
    const abort = new AbortController();
    const got: number[] = [];
    const loop = (async () => {
      for await (const { offset } of alertStream(heard.alerts, abort.signal)) got.push(offset);
    })();
    await world.settle();
    world.newest().say(alertMessage(6));
    await world.settle();
    if (how === 'stopped') world.newest().end(4004);
    else if (how === 'closed') heard.alerts.close();
    else abort.abort();
    await loop;
    expect(got).toEqual([6]);
    if (how === 'signal') continue;
    for await (const _late of alertStream(heard.alerts)) got.push(0);
    expect(got).toEqual([6]);
  }
});
