/**
 * What a resume could not bring (`recovered: false`) is fetched over HTTP: the alerts since then, each as it stands now.
 *
 * Live alerts do not wait for it. Bounded: at most 10,000 alerts; a failure is tried again with back-off, for some minutes
 * (a page of another origin cannot tell a failure from a lack of permission), a refusal is the end of it. Whoever carries no token (ticket, cookie, anybody) may not read the list: then it is only told.
 */
import { isAlert, isSevereEnough, type ViewerAlert } from './alert-shape.ts';
import type { Environment } from './environment.ts';
import type { Ask } from './http.ts';
import { waitMs } from './verdict.ts';

const PAGE = 500;
const PAGES_MOST = 20;
const PAUSE_MS = 500;
const FAILURES_MOST = 20;
const PACE = { firstMs: 1000, mostMs: 30_000 };

/** How it went: everything since then, not all of it, or nothing. */
export type GapOutcome = 'fetched' | 'partly' | 'unreachable';

/** What it needs. */
export interface GapOptions {
  readonly env: Environment;
  readonly ask: Ask;
  /** A token; null when there is none. May reject. */
  readonly bearer: () => Promise<string | null>;
  readonly zone: string | null;
  readonly minSeverity: string | null;
  /** Resolves when the application has handled it; answers whether it was news. Null: it could not be delivered. */
  readonly deliver: (alert: ViewerAlert) => Promise<boolean>;
  readonly onMalformed: () => void;
  readonly onDone: (outcome: GapOutcome, alerts: number) => void;
}

/** Fills gaps, one at a time. */
export interface GapFiller {
  /** True until the last gap is filled or given up. */
  readonly open: boolean;
  /** `since`: Unix ms. `isMissed` tells what the live stream will not bring. */
  fill(since: number, isMissed: (alert: ViewerAlert) => boolean): void;
  stop(): void;
}

type Page = { readonly alerts: readonly unknown[]; readonly next: string | null };

/** Creates it. */
export function createGapFiller(options: GapOptions): GapFiller {
  const { env, ask } = options;
  let current: object | null = null;
  let earliest = Number.POSITIVE_INFINITY;
  let cancel: (() => void) | null = null;

  /** A page; when it may come later, after how many ms at least; null when it will not. */
  async function page(since: number, cursor: string | null): Promise<Page | number | null> {
    const bearer = await options.bearer().catch(() => undefined);
    if (bearer === undefined) return PAUSE_MS;
    if (bearer === null) return null;
    const query = new URLSearchParams({ since: String(since), limit: String(PAGE) });
    if (options.zone !== null) query.set('zone', options.zone);
    if (cursor !== null) query.set('cursor', cursor);
    const reply = await ask({ path: `v1/alerts?${query.toString()}`, bearer });
    if (reply?.status === 200) {
      const { items, next } = reply.body;
      return { alerts: Array.isArray(items) ? items : [], next: typeof next === 'string' ? next : null };
    }
    const passing = reply === null || reply.status === 429 || reply.status === 401 || reply.status >= 500;
    return passing ? (reply?.retryAfterMs ?? PAUSE_MS) : null;
  }

  /** All pages, as far as they go. */
  async function collect(me: object, since: number): Promise<{ found: unknown[]; outcome: GapOutcome }> {
    const found: unknown[] = [];
    let cursor: string | null = null;
    let failures = 0;
    for (let pages = 0; pages < PAGES_MOST; ) {
      const got = await page(since, cursor);
      if (me !== current) break;
      if (got === null || failures === FAILURES_MOST) return { found, outcome: pages === 0 ? 'unreachable' : 'partly' };
      if (typeof got === 'number') {
        const wait = waitMs(PACE, failures++, got, env.random());
        await new Promise<void>((resolve) => (cancel = env.after(wait, resolve)));
        continue;
      }
      found.push(...got.alerts);
      if (got.next === null) return { found, outcome: 'fetched' };
      cursor = got.next;
      pages += 1;
    }
    return { found, outcome: 'partly' };
  }

  async function run(me: object, since: number, isMissed: (alert: ViewerAlert) => boolean): Promise<void> {
    const got = await collect(me, since);
    const alerts = got.found.filter((value): value is ViewerAlert => {
      const fits = isAlert(value);
      if (!fits) {
        options.onMalformed();
        if (got.outcome === 'fetched') got.outcome = 'partly';
      }
      return fits && isSevereEnough(value, options.minSeverity) && isMissed(value);
    });
    let news = 0;
    for (const alert of alerts.sort((a, b) => a.offset - b.offset)) {
      if (me !== current) return;
      if (await options.deliver(alert)) news += 1;
    }
    if (me !== current) return;
    current = null;
    earliest = Number.POSITIVE_INFINITY;
    options.onDone(got.outcome, news);
  }

  return {
    get open(): boolean {
      return current !== null;
    },
    fill(since, isMissed) {
      // A second gap while the first is being filled: one from the earlier of both.
      earliest = Math.min(earliest, since);
      const me = {};
      current = me;
      cancel?.();
      void run(me, earliest, isMissed);
    },
    stop() {
      // It stays open: a place that is saved now would hide it from a reload.
      if (current !== null) current = {};
      cancel?.();
    },
  };
}
