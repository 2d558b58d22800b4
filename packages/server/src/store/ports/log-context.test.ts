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
});
