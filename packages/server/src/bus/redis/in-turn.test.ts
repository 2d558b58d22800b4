import { describe, expect, it } from 'vitest';
import { createInTurn } from './in-turn.ts';

describe('work in turn', () => {
  it('of one key runs one after the other, also behind work that failed; keys do not wait for each other', async () => {
    const inTurn = createInTurn(10);
    const done: string[] = [];
    const slow = (name: string, ms: number, error?: Error) => async (): Promise<string> => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      done.push(name);
      if (error !== undefined) throw error;
      return name;
    };
    const failed = new Error('no');
    const results = await Promise.allSettled([
      inTurn('a', slow('a1', 40)),
      inTurn('a', slow('a2', 20, failed)),
      inTurn('a', slow('a3', 0)),
      inTurn('b', slow('b1', 0)),
    ]);
    expect(done).toEqual(['b1', 'a1', 'a2', 'a3']);
    expect(results.map((result) => (result.status === 'fulfilled' ? result.value : result.reason))).toEqual([
      'a1',
      failed,
      'a3',
      'b1',
    ]);
  });

  it('waits only up to its bound', async () => {
    const inTurn = createInTurn(2);
    let go = (): void => undefined;
    const first = inTurn('a', () => new Promise<void>((resolve) => (go = resolve)));
    const second = inTurn('a', async () => 2);
    await expect(inTurn('a', async () => 3)).rejects.toMatchObject({ code: 'bus-unavailable' });
    go();
    expect(await Promise.all([first, second])).toEqual([undefined, 2]);
    expect(await inTurn('a', async () => 4)).toBe(4);
  });
});
