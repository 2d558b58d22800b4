/** The contract of {@link Cells}: every implementation runs it. `pass` lets that many milliseconds go by. */
import { expect, it } from 'vitest';
import type { Bus } from './ports/bus.ts';

export function cellsSuite(open: () => Promise<Pick<Bus, 'cells'>>, pass: (ms: number) => Promise<void>): void {
  it('answers what was set, until its end', async () => {
    const { cells } = await open();
    expect(await cells.get('sign-in:k')).toBeNull();
    await cells.set('sign-in:k', 'v', 1000);
    expect(await cells.get('sign-in:k')).toBe('v');
    await cells.set('sign-in:k', '', 1000);
    expect(await cells.get('sign-in:k')).toBe('');
    await pass(1001);
    expect(await cells.get('sign-in:k')).toBeNull();
  });

  it('sets only when absent, and says whether it did', async () => {
    const { cells } = await open();
    expect(await cells.setIfAbsent('sign-in:k', 'a', 1000)).toBe(true);
    expect(await cells.setIfAbsent('sign-in:k', 'b', 1000)).toBe(false);
    expect(await cells.get('sign-in:k')).toBe('a');
    await pass(1001);
    expect(await cells.setIfAbsent('sign-in:k', 'b', 1000)).toBe(true);
  });

  it('gives a value to exactly one of many takers', async () => {
    const { cells } = await open();
    await cells.set('sign-in:k', 'v', 1000);
    const taken = await Promise.all(Array.from({ length: 8 }, () => cells.take('sign-in:k')));
    expect(taken.filter((value) => value === 'v')).toHaveLength(1);
    expect(taken.filter((value) => value === null)).toHaveLength(7);
  });

  it('keeps values of any text whole', async () => {
    const { cells } = await open();
    const value = 'a\r\n{b} é \u{1f514} "\0"';
    await cells.set('sign-in:k', value, 1000);
    expect(await cells.take('sign-in:k')).toBe(value);
    expect(await cells.take('sign-in:k')).toBeNull();
  });

  it('forgets a deleted cell, and an expired one cannot be taken', async () => {
    const { cells } = await open();
    await cells.set('sign-in:k', 'v', 1000);
    await cells.delete('sign-in:k');
    expect(await cells.get('sign-in:k')).toBeNull();
    await cells.set('sign-in:l', 'v', 1000);
    await pass(1001);
    expect(await cells.take('sign-in:l')).toBeNull();
  });
}
