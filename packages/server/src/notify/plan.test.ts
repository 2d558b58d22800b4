import type { Alert } from '@tocsin/protocol/alert';
import { describe, expect, it } from 'vitest';
import { alertOf, AT, idOf, messageOf } from './notices.suite.ts';
import { planNext, type PlanInput } from './plan.ts';
import { TELL_WITHIN_MS } from './retry.ts';

const plan = (alerts: readonly Partial<Alert>[], more: Partial<PlanInput> = {}): ReturnType<typeof planNext> =>
  planNext({
    messages: alerts.map((alert, index) => messageOf(alertOf({ id: idOf(index + 1), offset: index + 1, ...alert }))),
    told: new Map(),
    wants: { least: 2, firstOnly: [] },
    settled: new Map(),
    now: AT,
    ...more,
  });
const small = { severity: 'minor' } as const;
const old = { updatedAt: AT - TELL_WITHIN_MS - 1 };

describe('the next piece of work of a destination', () => {
  it('is nothing without messages', () => {
    expect(plan([])).toEqual({ kind: 'nothing' });
  });

  it('is the whole stretch that nothing is told of', () => {
    expect(plan([small, small, {}])).toEqual({ kind: 'pass', to: 2, told: [], dead: [] });
  });

  it('is what may be posted, over messages that nothing is told of', () => {
    const next = plan([{}, small, {}, old, {}]);
    expect(next.kind === 'post' && next.waiting.map(({ offset }) => offset)).toEqual([1, 3]);
  });

  it('passes what is too old as dead letters, and what was settled and not written down', () => {
    const settled = new Map([
      [2, { kind: 'told' } as const],
      [3, { kind: 'dead', reason: 'http-400' } as const],
    ]);
    expect(plan([old, old, old, {}], { settled })).toEqual({
      ...{ kind: 'pass', to: 3 },
      told: [{ alertId: idOf(2), severity: 3, over: false }],
      dead: [
        { offset: 1, alertId: idOf(1), revision: 1, event: 'raised', reason: 'too-old' },
        { offset: 3, alertId: idOf(3), revision: 1, event: 'raised', reason: 'http-400' },
      ],
    });
  });

  it('knows within a stretch what was told earlier in it', () => {
    const [id, at] = [idOf(1), { id: idOf(1) }];
    const next = plan([
      { ...at, severity: 'moderate' },
      { ...at, severity: 'moderate', revision: 2 },
      { ...at, severity: 'extreme', revision: 3 },
      { ...at, severity: 'extreme', revision: 4, state: 'resolved' },
    ]);
    expect(next.kind === 'post' && next.waiting.map(({ key, event }) => [key, event])).toEqual([
      [`${id}.1`, 'raised'],
      [`${id}.3`, 'updated'],
      [`${id}.4`, 'resolved'],
    ]);
  });

  it('passes over messages that are no alert of this version', () => {
    const [message] = [messageOf(alertOf())];
    expect(plan([], { messages: [{ ...message, body: '{' }] })).toEqual({ kind: 'pass', to: 1, told: [], dead: [] });
  });
});
