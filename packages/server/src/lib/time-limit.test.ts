import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { timeLimit } from './time-limit.ts';

describe('a time limit', () => {
  test('ends after its time, and with the other signal before that', async () => {
    const other = new AbortController();
    const late = timeLimit(other.signal, 10);
    await once(late.signal, 'abort');
    expect(other.signal.aborted).toBe(false);
    const early = timeLimit(other.signal, 60_000);
    other.abort();
    expect(early.signal.aborted).toBe(true);
    early.clear();
  });

  test('that was let go of ends by itself no more', async () => {
    const limit = timeLimit(new AbortController().signal, 10);
    limit.clear();
    const later = timeLimit(new AbortController().signal, 30);
    await once(later.signal, 'abort');
    expect(limit.signal.aborted).toBe(false);
  });
});
