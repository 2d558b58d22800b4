import { ALERT_STATES } from '@tocsin/protocol/alert';
import { expect, test } from 'vitest';
import { ALERT_ACTIONS, transition } from './transitions.ts';

test('the table of states and actions is this one', () => {
  const table = ALERT_STATES.flatMap((state) =>
    ALERT_ACTIONS.map((action) => {
      const answer = transition(state, action);
      return `${state} ${action}: ${answer.outcome === 'changed' ? answer.state : answer.outcome}`;
    }),
  );
  expect(table).toEqual([
    'open acknowledge: acknowledged',
    'open resolve: resolved',
    'acknowledged acknowledge: unchanged',
    'acknowledged resolve: resolved',
    'resolved acknowledge: transition-forbidden',
    'resolved resolve: unchanged',
  ]);
});

test('an action done again is never a change', () => {
  for (const state of ALERT_STATES) {
    for (const action of ALERT_ACTIONS) {
      const first = transition(state, action);
      if (first.outcome === 'changed') expect(transition(first.state, action).outcome).toBe('unchanged');
    }
  }
});
