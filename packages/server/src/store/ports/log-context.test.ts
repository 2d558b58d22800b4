import { describe, expect, test } from 'vitest';
import { formatContext, parseContext } from './log-context.ts';
import type { DeviceContext } from './log.ts';

const place = { latitude: 19.33, longitude: -99.18 };

describe('the text of a device context', () => {
  test.each<[DeviceContext, string]>([
    [{ device: 7, zone: null, zoneId: null }, '7'],
    [{ device: 7, zone: 2, zoneId: 'z-1' }, '7 2 z-1'],
    [{ device: 7, zone: 2, zoneId: 'z-1', place }, '7 2 z-1 19.33 -99.18'],
    [{ device: 7, zone: null, zoneId: null, place }, '7 ~ ~ 19.33 -99.18'],
    [{ device: 7, zone: null, zoneId: null, exercise: true }, '7 ~ ~ ~ ~ exercise'],
    [{ device: 7, zone: 2, zoneId: 'z-1', exercise: true }, '7 ~ ~ ~ ~ exercise 2 z-1'],
    [{ device: 7, zone: null, zoneId: null, place, exercise: true }, '7 ~ ~ ~ ~ exercise ~ ~ 19.33 -99.18'],
    [{ device: 7, zone: 2, zoneId: 'exercise', place, exercise: true }, '7 ~ ~ ~ ~ exercise 2 exercise 19.33 -99.18'],
    [{ device: 7, zone: 2, zoneId: 'exercise', place }, '7 2 exercise 19.33 -99.18'],
  ])('%j is %s and comes back as it was', (context, text) => {
    expect(formatContext(context)).toBe(text);
    expect(parseContext(text.split(' '))).toEqual(context);
  });

  test('a record without a context has none', () => {
    expect(parseContext(''.split(' '))).toBeNull();
    expect(parseContext([])).toBeNull();
  });

  test('records of the version before read as they did: without a place', () => {
    expect(parseContext(['7', '2', ''])).toEqual({ device: 7, zone: 2, zoneId: null });
    expect(parseContext(['7', '2', '~'])).toEqual({ device: 7, zone: 2, zoneId: null });
  });

  test('a version that reads five parts sees a simulated device without zone and place: it has a vote nowhere', () => {
    const text = formatContext({ device: 7, zone: 2, zoneId: 'z-1', place, exercise: true });
    expect(text.split(' ').slice(0, 5)).toEqual(['7', '~', '~', '~', '~']);
  });

  test('further words of a version to come are passed over', () => {
    expect(parseContext(['7', '2', 'z-1', '1', '2', 'later', '3'])).toEqual({
      ...{ device: 7, zone: 2, zoneId: 'z-1', place: { latitude: 1, longitude: 2 } },
    });
    expect(parseContext('7 ~ ~ ~ ~ exercise 2 z-1 1 2 later'.split(' '))).toMatchObject({ zone: 2, exercise: true });
  });
});
