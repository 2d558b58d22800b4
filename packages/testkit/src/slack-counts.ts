/** What Slack was told in a round, counted by the keys of its posts. Pure. */
import type { ReceivedPost } from './post-receiver.ts';

/** The counts. */
export interface SlackCounts {
  /** Posts of the round, of which this many were answered 429 or 5xx. */
  readonly posts: number;
  readonly refused: number;
  /** Alerts that Slack took (or got, without an answer), each counted once. */
  readonly told: number;
  /** Of them those that came more than once, and the most posts that one of them came with. */
  readonly repeated: number;
  readonly mostTimes: number;
  /** Of one key, texts that differ; alerts told for the first time after one that was raised later. */
  readonly otherTexts: number;
  readonly outOfOrder: number;
  /** Posts that came earlier after a 429 than its `Retry-After` allows. */
  readonly tooEarly: number;
  /** From when hosts became busy until Slack had taken the last of their alerts, ms: in the fault, and after it. */
  readonly slackMs: number;
  readonly laterSlackMs: number;
  /** The longest time from the arrival of a busy frame until Slack had taken its alert, ms: in the fault, and after it. */
  readonly delayMs: number;
  readonly laterDelayMs: number;
  /** Of that, until the alert was raised. */
  readonly raisedMs: number;
}

/** An alert as a viewer got it. */
export interface RaisedAlert {
  readonly id: string;
  readonly offset: number;
  readonly deviceId: string;
  readonly onset: number;
  /** When it was raised. */
  readonly updatedAt: number;
}

/** What is known of a round. Times are Unix ms. */
export interface SlackRound {
  /** The hosts that became busy in the fault; the others did after it. */
  readonly early: readonly string[];
  readonly heatedAt: number;
  readonly laterAt: number;
  readonly retryAfterMs: number;
}

interface Line {
  readonly key: string;
  readonly text: string;
  readonly at: number;
  readonly taken: boolean;
}

/** Counts the posts about these alerts. */
export function slackCounts(
  posts: readonly ReceivedPost[],
  alerts: readonly RaisedAlert[],
  { early, heatedAt, laterAt, retryAfterMs }: SlackRound,
): SlackCounts {
  const byId = new Map(alerts.map((alert) => [alert.id, alert]));
  const alertOf = ({ key }: Line): RaisedAlert | undefined => byId.get(key.slice(0, key.lastIndexOf('.')));
  const lines = posts
    .filter(isThere)
    .flatMap(linesOf)
    .filter((line) => alertOf(line) !== undefined);
  const groups = [...new Set(lines.map(({ key }) => key))].map((key) => lines.filter((line) => line.key === key));
  const firsts = groups.map(([first]) => (first === undefined ? 0 : (alertOf(first)?.offset ?? 0)));
  const longest = (inFault: boolean, since: (alert: RaisedAlert) => number): number =>
    Math.max(
      0,
      ...groups.flatMap((group) => {
        const alert = group[0] === undefined ? undefined : alertOf(group[0]);
        if (alert === undefined || early.includes(alert.deviceId) !== inFault) return [];
        return (group.find(({ taken }) => taken)?.at ?? Number.POSITIVE_INFINITY) - since(alert);
      }),
    );
  return {
    posts: posts.length,
    refused: posts.filter((post) => !isThere(post)).length,
    told: groups.filter((group) => group.some(({ taken }) => taken)).length,
    repeated: groups.filter((group) => group.length > 1).length,
    mostTimes: Math.max(0, ...groups.map((group) => group.length)),
    otherTexts: groups.filter((group) => new Set(group.map(({ text }) => text)).size > 1).length,
    outOfOrder: firsts.filter((offset, i) => i > 0 && offset < (firsts[i - 1] ?? 0)).length,
    tooEarly: posts.filter(
      (post, i) => posts[i - 1]?.status === 429 && post.at - (posts[i - 1]?.at ?? 0) < retryAfterMs,
    ).length,
    slackMs: longest(true, () => heatedAt),
    laterSlackMs: longest(false, () => laterAt),
    delayMs: longest(true, ({ onset }) => onset),
    raisedMs: Math.max(0, ...alerts.map(({ onset, updatedAt }) => updatedAt - onset)),
    laterDelayMs: longest(false, ({ onset }) => onset),
  };
}

/** Slack has it: it was answered 200, or nobody knows because the answer never came. */
function isThere({ status }: ReceivedPost): boolean {
  return status === 200 || status === null;
}

/** The lines of a post with their keys, in order. */
function linesOf({ headers, body, at, status }: ReceivedPost): Line[] {
  const keys = String(headers['idempotency-key'] ?? '')
    .split(',')
    .map((key) => key.trim());
  const texts = (JSON.parse(body) as { text: string }).text.split('\n');
  return keys.map((key, i) => ({ key, text: texts[i] ?? '', at, taken: status === 200 }));
}
