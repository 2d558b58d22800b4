/**
 * Token buckets in Redis: the arithmetic of `bus/bucket.ts` in one Lua script, by Redis's own clock.
 *
 * Guarantees: the same answers as `takeFrom`, step by step; one bucket for all processes; a bucket that is full again is
 * forgotten by Redis, and one that somebody else has written over is a new one. Takes that are made in one turn of the event loop travel together: alone or behind Sentinels in one
 * call of the script (which takes them one after the other), on a Cluster in one call for each bucket, written together.
 * Order: takes of one process on one bucket happen in the order in which they were made.
 * Failure: `take` rejects with `bus-unavailable`; a take that was refused so may have happened nevertheless.
 */
import { Cluster } from 'ioredis';
import { BACK_MOST_MS, type BucketUnits, NANO, bucketUnits } from '../bucket.ts';
import type { BucketAnswer, BucketShape, Limiter } from '../ports/bus.ts';
import type { RedisClient } from './client.ts';
import { bucketKey } from './keys.ts';
import type { RedisLink } from './link.ts';
import { type Script, script } from './script.ts';

/** Takes that one call of the script makes at most: it holds up everybody else in Redis for well under a millisecond. */
export const TAKES_MOST = 100;
/** How long a bucket is kept when a test says the time, which Redis does not know, in ms. */
const TEST_KEPT_MS = 3_600_000;
const INTEGERS_OF_ANSWER = 3;
/** Shapes whose numbers are kept written. */
const SHAPES_MOST = 1000;

/**
 * KEYS: buckets. ARGV: the time in ms or '' for Redis's own, then for each bucket nano-tokens a ms, nano-tokens at most,
 * nano-tokens to take. Answers allowed (0 or 1), tokens left and ms to wait, for each bucket. Line for line as `takeFrom`;
 * Lua's numbers are doubles too, and `%.0f` writes them whole.
 */
const TAKE: Script = script(`
local given = tonumber(ARGV[1])
local now = given
if not given then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local answers = {}
for index, key in ipairs(KEYS) do
  local perMs, capacity, price = tonumber(ARGV[index * 3 - 1]), tonumber(ARGV[index * 3]), tonumber(ARGV[index * 3 + 1])
  local at, level = now, capacity
  local kept = redis.pcall('GET', key)
  local keptLevel, keptAt = string.match(type(kept) == 'string' and kept or '', '^(%d+) (%d+)$')
  if keptAt then
    local since = tonumber(keptAt)
    if since - now > ${BACK_MOST_MS} then since = now end
    at = math.max(since, now)
    level = math.min(capacity, math.min(capacity, tonumber(keptLevel)) + (at - since) * perMs)
  end
  local allowed = price <= level
  local left, wait = level, 0
  if allowed then
    left = level - price
  else
    wait = math.max(1, at - now + math.ceil((math.min(price, capacity) - left) / perMs))
  end
  local fullIn = at - now + math.ceil((capacity - left) / perMs)
  local keep = given and ${TEST_KEPT_MS} or math.max(1, fullIn)
  redis.call('SET', key, string.format('%.0f %.0f', left, at), 'PX', string.format('%.0f', keep))
  answers[#answers + 1] = allowed and 1 or 0
  answers[#answers + 1] = math.floor(left / ${NANO})
  answers[#answers + 1] = wait
end
return answers
`);

interface Take {
  readonly key: string;
  readonly units: Units;
  readonly price: number;
  readonly resolve: (answer: BucketAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** Written once for each shape. */
interface Units {
  readonly perMs: string;
  readonly capacity: string;
}

/** What the limiter needs. */
export interface RedisLimiterOptions {
  readonly link: RedisLink;
  /** Tests only: the time in ms, instead of Redis's own. */
  readonly now?: () => number;
}

/** {@link Limiter} whose `take` is always a promise. */
export interface RedisLimiter extends Limiter {
  take(key: string, shape: BucketShape, cost?: number): Promise<BucketAnswer>;
}

/** Creates the limiter. */
export function createRedisLimiter({ link, now }: RedisLimiterOptions): RedisLimiter {
  const units = new Map<string, Units>();
  let waiting: Take[] = [];

  function unitsOf(shape: BucketShape): Units {
    // By value: callers make a shape for each take.
    const name = `${shape.ratePerSecond}/${shape.burst}`;
    const known = units.get(name);
    if (known !== undefined) return known;
    const made = written(bucketUnits(shape));
    if (units.size >= SHAPES_MOST) units.clear();
    units.set(name, made);
    return made;
  }

  function send(): void {
    const takes = waiting;
    waiting = [];
    const time = now === undefined ? '' : Math.floor(now());
    if (link.client instanceof Cluster) {
      for (const take of takes) void batch([take], time);
      return;
    }
    for (let from = 0; from < takes.length; from += TAKES_MOST) void batch(takes.slice(from, from + TAKES_MOST), time);
  }

  async function batch(takes: readonly Take[], time: number | ''): Promise<void> {
    try {
      const answers = await link.run('take', (client) => call(client, takes, time));
      takes.forEach((take, index) => take.resolve(answerAt(answers, index)));
    } catch (error) {
      for (const take of takes) take.reject(error);
    }
  }

  return {
    take(key, shape, cost = 1) {
      if (!(cost >= 0)) throw new RangeError('a cost is not negative');
      const shapeUnits = unitsOf(shape);
      return new Promise((resolve, reject) => {
        // After the other callbacks of this turn, so that what arrived together travels together.
        if (waiting.length === 0) setImmediate(send);
        waiting.push({ key: bucketKey(key), units: shapeUnits, price: Math.ceil(cost * NANO), resolve, reject });
      });
    },
  };
}

function written({ perMs, capacity }: BucketUnits): Units {
  return { perMs: String(perMs), capacity: String(capacity) };
}

async function call(client: RedisClient, takes: readonly Take[], time: number | ''): Promise<readonly number[]> {
  const values: (string | number)[] = [time];
  for (const { units, price } of takes) values.push(units.perMs, units.capacity, price);
  const answer = await TAKE(
    client,
    takes.map(({ key }) => key),
    values,
  );
  if (!Array.isArray(answer) || answer.length !== takes.length * INTEGERS_OF_ANSWER) {
    throw new TypeError('the script of the limiter answered something else');
  }
  return answer as number[];
}

function answerAt(answers: readonly number[], index: number): BucketAnswer {
  const at = index * INTEGERS_OF_ANSWER;
  return { allowed: answers[at] === 1, remaining: answers[at + 1] ?? 0, retryAfterMs: answers[at + 2] ?? 0 };
}
