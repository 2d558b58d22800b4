/**
 * A steady stream of alerts: drills posted to several instances in turn, whatever happens to these.
 *
 * An instance that does not answer soon is left out for a moment, but its answer is waited for, so that nothing enters
 * the channel after `stop`. What was answered with 201 is kept: it must be in the channel. What surely
 * made nothing (503, a refused connection) goes to the next instance at once; a post without an answer may have made an
 * alert or not, and is never sent again.
 */
import { Agent } from 'node:http';
import { call } from './device.ts';

/** The stream. */
export interface DrillSource {
  /** Ids answered with 201 since the start. */
  readonly made: readonly string[];
  /** Posts that got no 201, by status (0: no answer). */
  readonly failed: Readonly<Record<number, number>>;
  /** Stops; resolves once every post has its end. */
  stop(): Promise<void>;
}

/** An instance that has not answered after this is left out for so long, ms. */
const SOON_MS = 1000;
const AVOID_MS = 2000;
const TIMEOUT_MS = 90_000;
/** Posts without an answer yet, at most. */
const WAITING_MOST = 200;

/** Starts it: `perSecond` posts a second. */
export function startDrills(bases: readonly string[], token: string, perSecond: number): DrillSource {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const made: string[] = [];
  const failed: Record<number, number> = {};
  const avoidUntil = new Map<string, number>();
  const waiting = new Set<Promise<void>>();
  let serial = 0;

  /** One post; answers whether it is certain that nothing was made. */
  async function drill(base: string, headline: string): Promise<boolean> {
    const avoid = (): void => void avoidUntil.set(base, performance.now() + AVOID_MS);
    const soon = setTimeout(avoid, SOON_MS);
    const answer = await call(`${base}/v1/alerts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ severity: 'minor', headline }),
      agent,
      timeoutMs: TIMEOUT_MS,
    }).catch((error: NodeJS.ErrnoException) => error);
    clearTimeout(soon);
    const status = 'status' in answer ? answer.status : 0;
    if ('status' in answer && status === 201) {
      made.push(String(answer.body?.['id']));
      return false;
    }
    failed[status] = (failed[status] ?? 0) + 1;
    avoid();
    return status === 503 || ('code' in answer && answer.code === 'ECONNREFUSED');
  }

  async function drillSomewhere(): Promise<void> {
    serial += 1;
    const headline = `drill ${serial}`;
    for (let tries = 0; tries < bases.length; tries += 1) {
      const now = performance.now();
      const open = bases.filter((base) => (avoidUntil.get(base) ?? 0) < now);
      const among = open.length > 0 ? open : bases;
      turn += 1;
      if (!(await drill(among[turn % among.length] ?? '', headline))) return;
    }
  }

  let turn = 0;
  const timer = setInterval(() => {
    if (waiting.size >= WAITING_MOST) return;
    const one = drillSomewhere().finally(() => waiting.delete(one));
    waiting.add(one);
  }, 1000 / perSecond);
  return {
    made,
    failed,
    async stop() {
      clearInterval(timer);
      await Promise.all(waiting);
      agent.destroy();
    },
  };
}
