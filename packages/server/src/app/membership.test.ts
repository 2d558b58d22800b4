import { describe, expect, it } from 'vitest';
import { standingOf, strangers } from './membership.ts';

const instance = (id: string, worker: boolean, onBus = true) => ({ id, shared: true, onBus, worker });

describe('membership', () => {
  it('gives every worker a rank of its own, and counts workers only', () => {
    const all = [instance('b', true), instance('a', false), instance('c', true)];
    const standings = all.map(({ id }) =>
      standingOf(
        id,
        all.filter((other) => other.id !== id),
      ),
    );
    expect(standings[0]).toEqual({ rank: 0, workers: 2 });
    expect(standings[2]).toEqual({ rank: 1, workers: 2 });
  });

  it('calls strangers only those whose bus works and is not ours', () => {
    const others = [instance('a', true), instance('b', true, false), instance('c', true)];
    expect(strangers(others, ['a', 'me'])).toEqual(['c']);
  });
});
