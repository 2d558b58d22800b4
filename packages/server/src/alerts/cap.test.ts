import type { Alert, AlertKind } from '@tocsin/protocol/alert';
import { ALERT_KINDS, ALERT_STATES, SEVERITIES } from '@tocsin/protocol/alert';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AlertRecord } from '../store/ports/alerts.ts';
import { CAP_NAMESPACE, capTime, toCap } from './cap.ts';
import { capFaults, childrenOf, parseXml, textOf } from './cap-schema.suite.ts';

const at = Date.UTC(2026, 10, 20, 19, 17, 5, 678);

function record(change: Partial<Alert> = {}, revisedAt: readonly number[] = [at]): AlertRecord {
  const alert: Alert = {
    id: '01ARYZ6S41TSV4RRFFQ69G5FAV',
    kind: 'seismic.swarm',
    severity: 'severe',
    status: 'actual',
    state: 'open',
    revision: 1,
    offset: 7,
    headline: 'Seismic alarm in Catania: 50 sensors within 10 s',
    description: '50 sensors of Catania were triggered.',
    zoneId: 'z1',
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: at - 5000,
    sentAt: at,
    updatedAt: at,
    fingerprint: 'f'.repeat(64),
    evidence: {},
    signature: 'h..s',
    ...change,
  };
  return { alert, revisedAt };
}

const context = { publicUrl: 'https://alerts.example.org', zoneName: 'Catania' };

function field(xml: string, ...path: string[]): string[] {
  const [root] = parseXml(xml);
  let found = root === undefined ? [] : [root];
  for (const name of path) found = found.flatMap((node) => childrenOf(node, name));
  return found.map(textOf);
}

describe('the schema of CAP 1.2 holds', () => {
  const variants = ALERT_KINDS.flatMap((kind) =>
    ALERT_STATES.flatMap((state) => [1, 2, 150].map((revision) => ({ kind, state, revision }))),
  );

  test.each(SEVERITIES)('for every kind, state and revision of severity %s', (severity) => {
    for (const variant of variants) {
      for (const status of ['actual', 'exercise'] as const) {
        const place = variant.revision === 2 ? { latitude: 37.5, longitude: 15.087 } : { zoneId: null, deviceId: 'd1' };
        const times = Array.from({ length: Math.min(variant.revision, 100) }, (_, index) => at + index * 1000);
        expect(capFaults(toCap(record({ ...variant, severity, status, ...place }, times), context))).toEqual([]);
      }
    }
  });

  test('whatever text comes from outside', () => {
    const hostile = fc.oneof(
      fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes)),
      fc.constantFrom(
        ']]>',
        '<!DOCTYPE x [<!ENTITY e "y">]>&e;',
        '</headline><severity>Minor</severity>',
        '<script>',
        '&#0;',
        '"\'&<>',
      ),
    );
    fc.assert(
      fc.property(hostile, hostile, (headline, zoneName) => {
        const xml = toCap(record({ headline, description: headline }), { ...context, zoneName });
        expect(capFaults(xml)).toEqual([]);
        expect(field(xml, 'info', 'severity')).toEqual(['Severe']);
      }),
    );
  });

  test.each(['http://127.0.0.1:8080', 'http://[::1]:8080', 'https://bücher.example/base/'])(
    'for the public URL %s',
    (publicUrl) => {
      expect(capFaults(toCap(record(), { publicUrl, zoneName: null }))).toEqual([]);
    },
  );

  test('and the validator of this test finds what breaks it', () => {
    const good = toCap(record({ latitude: 1, longitude: 2 }), context);
    const broken = (from: string | RegExp, to: string): string[] => capFaults(good.replace(from, to));
    expect(broken('-00:00</sent>', 'Z</sent>')).not.toEqual([]);
    expect(broken('<scope>Public</scope>', '')).not.toEqual([]);
    expect(broken('<urgency>Immediate', '<urgency>Now')).not.toEqual([]);
    expect(broken(/(<status>.*\n)( *<msgType>.*\n)/, '$2$1')).not.toEqual([]);
    expect(broken('<circle>1.00000,2.00000', '<circle>1.00000 2.00000')).not.toEqual([]);
    expect(broken(CAP_NAMESPACE, 'urn:other')).not.toEqual([]);
    expect(broken('<sender>', '<sender>a b,')).not.toEqual([]);
    expect(broken('<areaDesc>Catania</areaDesc>', '')).not.toEqual([]);
    expect(broken('</headline>', '</headlin>')).not.toEqual([]);
  });
});

test('times have whole seconds and say UTC as -00:00', () => {
  expect(capTime(at)).toBe('2026-11-20T19:17:05-00:00');
});

test('the first revision is an Alert, a further one an Update, the one that resolves a Cancel', () => {
  const type = (change: Partial<Alert>): string[] => field(toCap(record(change), context), 'msgType');
  expect(type({})).toEqual(['Alert']);
  expect(type({ revision: 2 })).toEqual(['Update']);
  expect(type({ revision: 2, state: 'acknowledged' })).toEqual(['Update']);
  expect(type({ revision: 3, state: 'resolved' })).toEqual(['Cancel']);
});

test('updates refer to the earlier revisions by sender, identifier and time sent', () => {
  const references = (revision: number, times: readonly number[]): string[] =>
    field(toCap(record({ revision, updatedAt: times.at(-1) ?? at }, times), context), 'references');
  expect(references(1, [at])).toEqual([]);
  expect(references(3, [at, at + 1000, at + 2000])).toEqual([
    'alerts.example.org,01ARYZ6S41TSV4RRFFQ69G5FAV.1,2026-11-20T19:17:05-00:00 ' +
      'alerts.example.org,01ARYZ6S41TSV4RRFFQ69G5FAV.2,2026-11-20T19:17:06-00:00',
  ]);
  // Of a long history the first and those whose times are still known.
  expect(references(9, [at + 7000, at + 8000])).toEqual([
    'alerts.example.org,01ARYZ6S41TSV4RRFFQ69G5FAV.1,2026-11-20T19:17:05-00:00 ' +
      'alerts.example.org,01ARYZ6S41TSV4RRFFQ69G5FAV.8,2026-11-20T19:17:12-00:00',
  ]);
});

test('the message of a revision refers by what the message of the earlier one called itself', () => {
  const first = toCap(record(), context);
  const own = ['sender', 'identifier', 'sent'].map((name) => field(first, name)[0]).join(',');
  expect(field(toCap(record({ revision: 2, updatedAt: at + 9 }, [at, at + 9]), context), 'references')).toEqual([own]);
});

test('an exercise is never Actual, is restricted, and names itself in the note', () => {
  const xml = toCap(record({ kind: 'operator.drill', status: 'exercise' }), context);
  expect(field(xml, 'status')).toEqual(['Exercise']);
  expect(field(xml, 'scope')).toEqual(['Restricted']);
  expect(field(xml, 'note')).toEqual(['Exercise 01ARYZ6S41TSV4RRFFQ69G5FAV']);
});

test.each([
  ['seismic.swarm', 'Geo', 'Public'],
  ['seismic.event', 'Geo', 'Public'],
  ['host.cpu', 'Infra', 'Restricted'],
  ['mobile.trust', 'Security', 'Restricted'],
] as [AlertKind, string, string][])('%s is of category %s and scope %s', (kind, category, scope) => {
  const xml = toCap(record({ kind }), context);
  expect(field(xml, 'info', 'category')).toEqual([category]);
  expect(field(xml, 'scope')).toEqual([scope]);
});

test('what is over is past, and all clear', () => {
  const xml = toCap(record({ revision: 2, state: 'resolved' }), context);
  expect(field(xml, 'info', 'urgency')).toEqual(['Past']);
  expect(field(xml, 'info', 'responseType')).toEqual(['AllClear']);
});

test('a known place is a circle, latitude first, and the zone is described by its name', () => {
  const xml = toCap(record({ latitude: -1e-9, longitude: 179.123456789 }), context);
  expect(field(xml, 'info', 'area', 'circle')).toEqual(['0.00000,179.12346 50.0']);
  expect(field(xml, 'info', 'area', 'areaDesc')).toEqual(['Catania']);
  expect(field(toCap(record(), { ...context, zoneName: null }), 'info', 'area', 'areaDesc')).toEqual(['Zone z1']);
});
