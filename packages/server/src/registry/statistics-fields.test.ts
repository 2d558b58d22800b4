import { expect, test } from 'vitest';
import { chooseField, MEASURED_FIELDS } from './statistics-fields.ts';

test('a name of a field says its profile', () => {
  expect(new Set(MEASURED_FIELDS.map((field) => field.field)).size).toBe(MEASURED_FIELDS.length);
});

test.each([
  [['seismic'], 'value'],
  [['host'], 'cpu_percent'],
  [['mobile'], 'score'],
  [['mobile', 'host'], 'cpu_percent'],
  [[], 'value'],
] as const)('the main field of %j is %s', (profiles, name) => {
  expect(chooseField(profiles, undefined)).toMatchObject({ kind: 'field', field: { field: name } });
});

test('a field of another profile is unknown, and the known ones are named', () => {
  expect(chooseField(['seismic'], 'cpu_percent')).toEqual({ kind: 'unknown', known: ['value'] });
});
