import { expect, test } from 'vitest';
import { watchBacklog } from './backlog.ts';

test('what is behind is the sum over partitions, and stays what it was while the store is away', async () => {
  let away = false;
  const states = [
    { partition: 0, head: 10, position: 4 },
    { partition: 1, head: 3, position: 3 },
  ];
  const backlog = watchBacklog({
    state: async () => {
      if (away) throw new Error('away');
      return states;
    },
  });
  await expect.poll(() => backlog.records()).toBe(6);
  away = true;
  expect(backlog.partitions()).toEqual(states);
  await backlog.stop();
  expect(backlog.records()).toBe(6);
});
