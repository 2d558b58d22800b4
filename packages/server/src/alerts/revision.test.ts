import type { AlertFinding } from '@tocsin/protocol/finding';
import { expect, test } from 'vitest';
import { cleanFinding, decideRevision, endRevision, firstRevision, foldFindings, nextRevision } from './revision.ts';

const envelopes = (count: number): object[] =>
  Array.from({ length: count }, (_, index) => ({ deviceId: `d${index}`, envelopeId: 'e' }));

function finding(change: Partial<AlertFinding> = {}): AlertFinding {
  return {
    kind: 'seismic.swarm',
    severity: 'severe',
    status: 'actual',
    headline: 'h',
    description: 'd',
    zoneId: 'z',
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: 1000,
    fingerprint: 'f',
    evidence: { sensors: 3, envelopes: envelopes(3) },
    ...change,
  };
}

const first = firstRevision('id', finding(), 2000);

test.each([
  ['the same again', finding(), 'same'],
  ['the same members in another order', finding({ evidence: { envelopes: envelopes(3), sensors: 3 } }), 'same'],
  ['more envelopes', finding({ evidence: { sensors: 4, envelopes: envelopes(4) } }), 'grown'],
  ['other numbers about the same envelopes', finding({ evidence: { sensors: 9, envelopes: envelopes(3) } }), 'grown'],
  ['fewer envelopes', finding({ evidence: { sensors: 2, envelopes: envelopes(2) } }), 'older'],
  ['fewer envelopes but worse', finding({ severity: 'extreme', evidence: { envelopes: envelopes(2) } }), 'grown'],
  ['a lesser severity alone', finding({ severity: 'minor' }), 'same'],
] as const)('a finding with %s', (_name, next, reason) => {
  expect(decideRevision(first, next)).toBe(reason);
});

test('a resolved alert stays as it is, whatever comes', () => {
  expect(decideRevision({ ...first, state: 'resolved' }, finding({ severity: 'extreme' }))).toBe('resolved');
});

test('a further revision never sinks in severity, stays acknowledged, and never looks earlier', () => {
  const grown = finding({ severity: 'minor', headline: 'more', evidence: { sensors: 4 } });
  const next = nextRevision({ ...first, state: 'acknowledged' }, grown, 500);
  expect(next).toEqual({
    ...first,
    state: 'acknowledged',
    revision: 2,
    headline: 'more',
    evidence: { sensors: 4 },
  });
});

test('of several findings of one event in a batch the last that says more counts, with the worst severity', () => {
  const folded = foldFindings([
    finding({ severity: 'extreme' }),
    finding({ fingerprint: 'g' }),
    finding({ headline: 'more', evidence: { sensors: 4, envelopes: envelopes(4) } }),
    finding({ headline: 'late', evidence: { sensors: 2, envelopes: envelopes(2) } }),
  ]);
  expect(folded.map(({ fingerprint }) => fingerprint)).toEqual(['f', 'g']);
  expect(folded[0]).toMatchObject({ severity: 'extreme', headline: 'more', evidence: { sensors: 4 } });
});

test('an end stays in its place: what was found before it and after it is not made one', () => {
  const folded = foldFindings([
    finding({ headline: 'a' }),
    finding({ headline: 'b', evidence: { sensors: 4, envelopes: envelopes(4) } }),
    finding({ ends: true, headline: 'end' }),
    finding({ fingerprint: 'g' }),
    finding({ headline: 'c' }),
  ]);
  expect(folded.map(({ fingerprint, headline }) => [fingerprint, headline])).toEqual([
    ...[
      ['f', 'b'],
      ['f', 'end'],
      ['g', 'h'],
      ['f', 'c'],
    ],
  ]);
});

test('an end resolves the alert, keeps what it said and adds what ended it', () => {
  const end = finding({
    ends: true,
    severity: 'extreme',
    headline: '',
    description: 'Over.',
    evidence: { ended: { at: 5 } },
  });
  expect(endRevision({ ...first, state: 'acknowledged' }, end, 3000)).toEqual({
    ...first,
    state: 'resolved',
    revision: 2,
    description: 'd Over.',
    updatedAt: 3000,
    evidence: { ...first.evidence, ended: { at: 5 } },
  });
});

test('a finding with numbers that are none is made fit to be signed', () => {
  const clean = cleanFinding(finding({ latitude: Number.NaN, longitude: 1, onset: 10.4, headline: 'a\u0007b' }));
  expect(clean).toMatchObject({ latitude: null, longitude: null, onset: 10, headline: 'ab' });
});
