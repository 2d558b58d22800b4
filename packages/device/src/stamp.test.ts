import type { ProfileName } from '@tocsin/protocol/envelope';
import { describe, expect, it } from 'vitest';
import { stampReadings, untimedPlaces } from './stamp.ts';

const stamp = (profile: ProfileName, readings: readonly object[], at: number): readonly object[] =>
  stampReadings(profile, readings, untimedPlaces(readings), at);

describe('the time of a reading', () => {
  it('is that of the report where the reading says none, and the object of the app stays as it is', () => {
    const mine = { value: 1 };
    expect(stamp('seismic', [mine, { value: 2, at: undefined }], 7)).toEqual([
      { value: 1, at: 7 },
      { value: 2, at: 7 },
    ]);
    expect(mine).toEqual({ value: 1 });
  });

  it('is never changed where the reading says one, not even a wrong one', () => {
    const readings = [{ at: 0 }, { at: -1 }, { at: null }, { at: 'soon' }];
    expect(untimedPlaces(readings).size).toBe(0);
    expect(stamp('host', readings, 7)).toEqual(readings);
  });

  it('is not made up for a waveform packet', () => {
    const packet = { rate: 100, x: [1], y: [1], z: [1] };
    expect(() => stamp('seismic', [{ value: 1 }, packet], 7)).toThrow(
      expect.objectContaining({ code: 'reading-invalid', message: expect.stringContaining('reading 1') }),
    );
    expect(stamp('seismic', [{ ...packet, at: 3 }], 7)).toEqual([{ ...packet, at: 3 }]);
  });

  it('is nothing for what is no reading', () => {
    const odd = [null, 5, 'x', [1], new Date(0), { toJSON: () => 1 }] as unknown as object[];
    expect(untimedPlaces(odd).size).toBe(0);
    expect(stamp('mobile', odd, 7)).toEqual(odd);
    for (const list of [undefined, null, {}, 'text']) expect(untimedPlaces(list as unknown as object[]).size).toBe(0);
  });
});
