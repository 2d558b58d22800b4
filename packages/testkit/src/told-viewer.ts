/**
 * A viewer of the SDK that writes down what happens to it: its phases with the instance that it is at, its state, and what
 * alerts the application was told, in order. On `moving` the SDK opens the next connection before it lets the old one go.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { accessToken, connectAlerts } from '@tocsin/client/node';
import type { Story } from './story.ts';

/** Where it watches, and who writes it down. */
export interface ToldOptions {
  readonly url: string;
  readonly token: string;
  /** The name of the instance that the newest connection went to. */
  readonly where: () => string;
  readonly story: Story;
}

/** What it saw. */
export interface ToldResult {
  /** Offsets in the order in which the application was told. */
  readonly seen: readonly number[];
  /** The longest time between two of them, ms. */
  readonly longestGapMs: number;
  /** States after it was protected for the first time. */
  readonly states: readonly string[];
  readonly connections: number;
}

/** The viewer. */
export interface ToldViewer {
  result(): ToldResult;
  /** The instance of its newest connection. */
  at(): string;
  /** Waits until it has been told so many alerts and is protected; rejects after `timeoutMs`. */
  told(count: number, timeoutMs: number): Promise<void>;
  close(): void;
}

/** Phases that begin with the welcome of a new connection. */
const GREETED: ReadonlySet<string> = new Set(['open', 'handing-over']);

/** Watches; resolves once it is protected. */
export async function watchTold({ url, token, where, story }: ToldOptions): Promise<ToldViewer> {
  const seen: number[] = [];
  const seenAt: number[] = [];
  const states: string[] = [];
  let place = '';
  const alerts = connectAlerts({ url, credentials: accessToken(() => token) });
  alerts.on('transition', ({ from, to, reason }) => {
    const greeted = GREETED.has(to) && from !== 'handing-over';
    if (greeted) place = where();
    story.tell(`${from} -> ${to}: ${reason}${greeted ? ` at ${place}` : ''}`);
  });
  alerts.on('state', (state, { reason }) => {
    if (states.length > 0 || state === 'protected') states.push(state);
    story.tell(`${state}: ${reason}`);
  });
  alerts.on('alert', ({ offset }) => {
    story.alert(offset);
    seen.push(offset);
    seenAt.push(performance.now());
  });
  alerts.on('gap', ({ outcome }) => story.tell(`gap: ${outcome}`));
  alerts.on('violation', ({ reason }) => story.tell(`violation: ${reason}`));
  alerts.on('stopped', (reason) => story.tell(`stopped: ${reason}`));

  async function told(count: number, timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    while (seen.length < count || alerts.state !== 'protected') {
      if (performance.now() > until) throw new Error(`told ${seen.length} of ${count}:\n${story.lines.join('\n')}`);
      await pause(10);
    }
  }

  await told(0, 10_000);
  return {
    told,
    at: () => place,
    result: () => ({
      seen: [...seen],
      longestGapMs: Math.max(0, ...seenAt.map((time, i) => time - (seenAt[i - 1] ?? time))),
      states: [...states],
      connections: alerts.counts.connections,
    }),
    close: () => alerts.close(),
  };
}
