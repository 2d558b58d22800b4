import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { delivers, type Phase, type PhaseEvent, PHASES } from './phases.ts';
import { protectionOf, type ProtectionView } from './protection.ts';
import { CLOSE_POLICY, judge, waitMs } from './verdict.ts';

describe('the table of phases', () => {
  const phases = Object.keys(PHASES) as Phase[];
  const events = Object.keys(PHASES.idle) as PhaseEvent[];

  test('has a place for every phase and every event', () => {
    for (const phase of phases) expect(Object.keys(PHASES[phase]).sort()).toEqual([...events].sort());
  });
  test('leads to every phase from the start', () => {
    const reached = new Set<Phase>(['idle']);
    for (const phase of reached) for (const to of Object.values(PHASES[phase])) if (to !== null) reached.add(to);
    expect([...reached].sort()).toEqual([...phases].sort());
  });
  test('lets the application close in every phase, and nothing else happens after that', () => {
    for (const phase of phases) expect(PHASES[phase].close).toBe(phase === 'closed' ? null : 'closed');
    expect(Object.values(PHASES.closed).every((to) => to === null)).toBe(true);
  });
  test('knows no way back from stopped', () => {
    expect(Object.values(PHASES.stopped).filter((to) => to !== null)).toEqual(['closed']);
  });
  test('calls those phases delivering that have a welcomed main connection', () => {
    expect(phases.filter(delivers)).toEqual(['open', 'leaving', 'overlapping', 'handing-over', 'clinging']);
  });
});

describe('the table of close codes', () => {
  test('has exactly the rows of the protocol, and stays away exactly where the protocol says so', () => {
    expect(Object.keys(CLOSE_POLICY)).toEqual(Object.keys(CLOSE_CODES));
    for (const [name, row] of Object.entries(CLOSE_CODES)) {
      const verdict = judge({ kind: 'closed', code: row.code });
      expect(verdict.action, name).toBe(row.advice === 'stay-away' ? 'stop' : 'retry');
      expect(verdict.reason).toBe(name);
      expect(CLOSE_POLICY[name as CloseName].code).toBe(row.code);
      if (verdict.action === 'retry')
        expect(verdict.need).toBe(row.advice === 'refresh-then-reconnect' ? 'reauthenticate' : 'connect');
    }
  });
  test.each([1000, 1002, 1005, 1006, 1007, 1011, 1015, 3000, 4999])('takes %i for a loss of the network', (code) => {
    expect(judge({ kind: 'closed', code })).toMatchObject({ action: 'retry', reason: 'network', ask: false });
  });
  test('backs off longer where the server is crowded', () => {
    for (const name of ['overloaded', 'rate'] as const) expect(CLOSE_POLICY[name].pace?.firstMs).toBeGreaterThan(1000);
  });
});

describe('a refused handshake', () => {
  test.each([
    [401, null, { action: 'retry', need: 'refused', reason: 'unauthorized' }],
    [402, null, { action: 'stop', reason: 'payment-required' }],
    [403, null, { action: 'stop', reason: 'forbidden' }],
    [400, null, { action: 'stop', reason: 'malformed' }],
    [429, 7000, { action: 'retry', leastMs: 7000, reason: 'rate-limited' }],
    [503, 1000, { action: 'retry', leastMs: 1000, reason: 'unavailable' }],
    [404, null, { action: 'retry', leastMs: 0 }],
    [502, null, { action: 'retry' }],
  ])('with %i', (status, retryAfterMs, verdict) => {
    expect(judge({ kind: 'refused', status, retryAfterMs })).toMatchObject(verdict);
  });
  test('without a word is a reason to ask', () => {
    expect(judge({ kind: 'unexplained' })).toMatchObject({ action: 'retry', ask: true });
  });
});

test('waits are full jitter between what was told and the most', () => {
  fc.assert(
    fc.property(
      fc.nat(1000),
      fc.nat(60_000),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (attempt, least, random) => {
        const pace = { firstMs: 500, mostMs: 30_000 };
        const wait = waitMs(pace, attempt, least, random);
        expect(wait).toBeGreaterThanOrEqual(least);
        expect(wait).toBeLessThanOrEqual(least + Math.min(30_000, 500 * 2 ** attempt));
      },
    ),
  );
  expect(waitMs({ firstMs: 500, mostMs: 30_000 }, 3, 0, 0.5)).toBe(2000);
});

describe('the state', () => {
  const view: ProtectionView = {
    now: 19_999,
    delivering: true,
    lostReason: 'network',
    welcomedAt: 0,
    periodMs: 10_000,
    coveredAt: 0,
    gapOpen: false,
    keysReady: true,
    tainted: '',
  };
  test.each<[string, Partial<ProtectionView>, string]>([
    ['a proof younger than two periods', {}, 'protected: watermark'],
    ['a proof of two periods', { now: 20_000 }, 'not-protected: no-watermark'],
    ['no proof yet', { coveredAt: null }, 'catching-up: resuming'],
    ['no proof for two periods', { coveredAt: null, now: 20_000 }, 'not-protected: no-watermark'],
    ['an open gap', { gapOpen: true }, 'catching-up: gap'],
    ['no keys', { keysReady: false }, 'not-protected: no-keys'],
    ['a forged alert that was passed over', { tainted: 'forged' }, 'not-protected: forged'],
    ['no connection', { delivering: false }, 'not-protected: network'],
  ])('with %s is %s', (_name, change, expected) => {
    const { state, reason } = protectionOf({ ...view, ...change });
    expect(`${state}: ${reason}`).toBe(expected);
  });
  test('names the moment at which time alone would end it', () => {
    expect(protectionOf(view).until).toBe(20_000);
  });
});
