import { expect, test } from 'vitest';
import type { BridgeReport } from './bridge-matrix.ts';
import { bridgeTable } from './bridge-table.ts';
import type { ReceivedPost } from './post-receiver.ts';
import { type RaisedAlert, slackCounts } from './slack-counts.ts';

const REPORT: BridgeReport = {
  bridge: 'broker, killed',
  round: 0,
  lastedMs: 4026,
  ...{ acknowledged: 1500, stored: 1500, different: 1500, lost: 0, unequal: 0, behind: 0 },
  ...{ alerts: 24, seen: [24, 24], viewerFaults: [], pubackGapMs: 4100, viewerGapMs: 4300, dashboards: 4 },
  ...{ posts: 25, refused: 1, told: 24, repeated: 1, mostTimes: 2, otherTexts: 0, outOfOrder: 0, tooEarly: 0 },
  ...{ slackMs: 5000, laterSlackMs: 300, delayMs: 900, laterDelayMs: 200, raisedMs: 100 },
};

test('reports of one fault make one row: counts are sums, times median and worst', () => {
  const lines = bridgeTable([REPORT, { ...REPORT, round: 1, lost: 2, slackMs: 7000 }]).split('\n');
  expect(lines).toHaveLength(3);
  expect(lines[2]).toBe(
    '| broker, killed | 2 | 4.0 / 4.0 | 3,000 | 3,000 | 3,000 | 2 | 0 | 48 | 48 | 96 / 96 | 48 | 2 | 50 / 2 | 0 | 4.1 / 4.1 | 4.3 / 4.3 | 7.0 / 7.0 | 0.3 / 0.3 |',
  );
});

const alert = (n: number): RaisedAlert => ({ id: `A${n}`, offset: n, deviceId: `h${n}`, onset: 1000, updatedAt: 1010 });
const post = (at: number, status: number | null, ...alerts: readonly number[]): ReceivedPost => ({
  ...{ at, path: '/hook', status },
  headers: { 'idempotency-key': alerts.map((n) => `A${n}.1`).join(',') },
  body: JSON.stringify({ text: alerts.map((n) => `alert ${n}`).join('\n') }),
});
const ROUND = { early: ['h1', 'h2'], heatedAt: 900, laterAt: 2000, retryAfterMs: 2000 };

test('posts are counted by their keys: refused ones tell nothing, one without an answer may come again', () => {
  const alerts = [alert(1), alert(2), alert(3)];
  const posts = [post(1100, 500, 1), post(1200, null, 1), post(1300, 200, 1, 2), post(2500, 200, 3)];
  const counts = slackCounts(posts, alerts, ROUND);
  expect(counts).toMatchObject({ posts: 4, refused: 1, told: 3, repeated: 1, mostTimes: 2, otherTexts: 0 });
  expect(counts).toMatchObject({ outOfOrder: 0, tooEarly: 0, slackMs: 400, laterSlackMs: 500, delayMs: 300 });
  expect(counts).toMatchObject({ laterDelayMs: 1500, raisedMs: 10 });
});

test('what must not be is seen: another order, another text for a key, a post before Retry-After is over', () => {
  const other = { ...post(1400, 200, 2), body: '{"text":"something else"}' };
  const posts = [post(1100, 429, 1), post(1200, 200, 2), other, post(4000, 200, 1)];
  expect(slackCounts(posts, [alert(1), alert(2)], ROUND)).toMatchObject({ tooEarly: 1, otherTexts: 1, outOfOrder: 1 });
});
