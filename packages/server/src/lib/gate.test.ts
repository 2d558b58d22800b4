import { expect, test } from 'vitest';
import { createGate } from './gate.ts';

test('as many as allowed work at once, the others in their order, what fails makes room too', async () => {
  const gate = createGate(2, 10);
  let inside = 0;
  let most = 0;
  const order: number[] = [];
  const results = await Promise.allSettled(
    [0, 1, 2, 3, 4, 5].map((n) =>
      gate(async () => {
        inside += 1;
        most = Math.max(most, inside);
        order.push(n);
        await new Promise((resolve) => setImmediate(resolve));
        inside -= 1;
        if (n === 1) throw new Error('fails');
        return n;
      }),
    ),
  );
  expect([most, inside]).toEqual([2, 0]);
  expect(order).toEqual([0, 1, 2, 3, 4, 5]);
  expect(results.map(({ status }) => status === 'fulfilled')).toEqual([true, false, true, true, true, true]);
});

test('what finds no room to wait is turned away', async () => {
  const gate = createGate(1, 1);
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const all = [gate(() => held), gate(() => held), gate(() => held)];
  await expect(all[2]).rejects.toMatchObject({ code: 'gate-full' });
  release();
  await Promise.all(all.slice(0, 2));
});
