import type { AnswerRow, FleetReport } from '@tocsin/device/simulate/fleet-report';
import { createHistogram } from '@tocsin/device/simulate/histogram';
import { describe, expect, it } from 'vitest';
import { hintsOf, problemsOf, reasonOf, summaryObject, summaryText } from './simulate-summary.ts';

function row(kind: AnswerRow['kind'], answer: string, count: number, expected = true): AnswerRow {
  const latency = createHistogram();
  for (let i = 0; i < count; i += 1) latency.add(5);
  return { kind, answer, expected, count, latency: latency.record() };
}

function report(changes: Partial<FleetReport> = {}): FleetReport {
  return {
    ...{ startedAt: 0, seconds: 10, planned: 12, unsent: 0, accepted: 10, acceptedReadings: 20, uncertainReadings: 0 },
    rows: [row('forged', '401 signature-invalid', 2), row('trigger', '202', 10)],
    ...{ lateness: createHistogram().record(), cpuSeconds: 1, processes: 1, mostOutstanding: 3 },
    ...{ ended: 'done', connectionError: '' },
    ...changes,
  };
}

const stored = (count: number): { stored: number; alerts: [] } => ({ stored: count, alerts: [] });

describe('the check of a run', () => {
  it('holds when every answer was expected and what is stored is what was accepted', () => {
    expect(problemsOf(report(), stored(20))).toEqual([]);
    expect(problemsOf(report(), null)).toEqual([]);
    expect(problemsOf(report({ rows: [row('trigger', '429 rate-limited', 4)] }), null)).toEqual([]);
  });

  it('fails for an attack that was accepted, an honest envelope that was refused or not answered', () => {
    const rows = [
      row('forged', '202', 1, false),
      row('trigger', '422 schema', 3, false),
      row('host', 'timeout', 2, false),
    ];
    expect(problemsOf(report({ rows }), null)).toEqual([
      '1 attacks (forged) were accepted',
      '3 envelopes (trigger) were answered 422 schema',
      '2 envelopes (host) were not answered (timeout)',
    ]);
  });

  it('fails when less is stored than was accepted, or more than may be', () => {
    expect(problemsOf(report(), stored(19))).toEqual(['19 readings are stored, but 20 were accepted']);
    expect(problemsOf(report(), stored(21))).toHaveLength(1);
    expect(problemsOf(report({ uncertainReadings: 3 }), stored(23))).toEqual([]);
    expect(problemsOf(report({ uncertainReadings: 3 }), stored(24))).toEqual([
      '24 readings are stored, but 20 to 23 were accepted',
    ]);
  });

  it('fails when an alert of the fleet is not an exercise', () => {
    const alerts = [{ kind: 'host.cpu', status: 'actual', afterMs: 1 }];
    expect(problemsOf(report(), { stored: 20, alerts })).toHaveLength(1);
  });
});

describe('the summary', () => {
  it('names honest kinds first, marks what was unexpected, and gives the totals', () => {
    const rows = [...report().rows, row('stale', '202', 1, false)];
    const alerts = [1000, 3000, 2000].map((afterMs) => ({ kind: 'seismic.swarm', status: 'exercise', afterMs }));
    const text = summaryText(report({ rows }), { stored: 20, alerts });
    expect(text.indexOf('trigger')).toBeLessThan(text.indexOf('forged'));
    expect(text).toMatch(/stale +202 +unexpected +1/);
    expect(text).toContain('20 accepted, 20 stored');
    expect(text).toContain('3 seismic.swarm, told 2.0 s after the onset (median)');
  });

  it('as an object has the same, for programs', () => {
    expect(summaryObject(report(), stored(20), [])).toMatchObject({
      ok: true,
      sent: 12,
      readings: { accepted: 20, stored: 20 },
      answers: [{ kind: 'trigger', count: 10, ms: { p50: 5, p99: 5, max: 5 } }, { kind: 'forged' }],
    });
    expect(summaryObject(report({ ended: 'unreachable' }), null, [])).toMatchObject({ ok: false });
  });

  it('hints at limits, at what was never sent, and at a generator that was the slow one', () => {
    expect(hintsOf(report())).toEqual([]);
    const slow = createHistogram();
    slow.add(500);
    const rows = [row('trigger', '429 rate-limited', 10), row('trigger', '202', 2)];
    expect(hintsOf(report({ rows, unsent: 1, lateness: slow.record() }))).toEqual([
      expect.stringContaining('RATE_LIMIT_PER_KEY'),
      expect.stringContaining('never sent'),
      expect.stringContaining('generator'),
    ]);
    expect(reasonOf(report({ connectionError: 'a\nb' }))).toBe('a?b');
  });
});
