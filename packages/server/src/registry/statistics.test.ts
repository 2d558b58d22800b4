import { expect, test } from 'vitest';
import type { StatisticsStore } from '../store/ports/statistics.ts';
import { createStatistics } from './statistics.ts';

test('however many ask for statistics at once, most connections of the store stay free for what must not wait', async () => {
  let reading = 0;
  let most = 0;
  const store: StatisticsStore = {
    device: async () => null,
    zone: async () => null,
    read: async (targets) => {
      reading += 1;
      most = Math.max(most, reading);
      await new Promise((resolve) => setImmediate(resolve));
      reading -= 1;
      return targets.map(() => ({ kind: 'parts', parts: [] }));
    },
  };
  const statistics = createStatistics(store);
  const answers = await Promise.allSettled(Array.from({ length: 300 }, () => statistics.everything({})));
  expect(most).toBe(4);
  const refused = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []));
  expect(refused.length).toBe(96);
  expect(refused[0]).toMatchObject({ refusal: { code: 'overloaded', retryAfterMs: 1000 } });
});
