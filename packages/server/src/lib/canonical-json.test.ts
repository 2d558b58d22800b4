import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CANONICAL_DEPTH, canonical } from './canonical-json.ts';

/** A double by its IEEE 754 bits in hex, as RFC 8785 appendix B lists them. */
function double(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE();
}

describe('RFC 8785', () => {
  test('the example of section 3.2 comes out as the RFC shows it', () => {
    const source = String.raw`{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }`;
    const expected = String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`;
    expect(canonical(JSON.parse(source))).toBe(expected);
  });

  test('members are sorted by UTF-16 code units, as in section 3.2.3', () => {
    const source = String.raw`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
      "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`;
    const values = [...canonical(JSON.parse(source)).matchAll(/:"([^"]+)"/g)].map((match) => match[1]);
    expect(values).toEqual([
      'Carriage Return',
      'One',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ]);
  });

  test.each([
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['ffefffffffffffff', '-1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555554', '333333333.33333325'],
    ['41b3de4355555555', '333333333.3333333'],
    ['41b3de4355555556', '333333333.3333334'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ])('the number %s of appendix B is %s', (bits, text) => {
    expect(canonical(double(bits))).toBe(text);
  });
});

test.each([
  ['NaN', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
  ['a lone surrogate', 'a\ud83d'],
  ['a lone surrogate in a name', { '\udead': 1 }],
  ['undefined', undefined],
  ['an undefined member', { a: undefined }],
  ['a hole', Object.assign([], { length: 2 })],
  ['a bigint', 1n],
  ['a function', { toJSON: () => 1 }],
  ['a date', new Date(0)],
  ['a map', new Map()],
])('%s is refused', (_name, value) => {
  expect(() => canonical({ inside: [value] })).toThrow(expect.objectContaining({ code: 'not-canonical' }));
});

test('a cycle and nesting that is too deep are refused', () => {
  const cycle: unknown[] = [];
  cycle.push(cycle);
  expect(() => canonical(cycle)).toThrow(/too deep/);
  const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)]);
  expect(canonical(deep(CANONICAL_DEPTH))).toHaveLength(2 * CANONICAL_DEPTH + 1);
  expect(() => canonical(deep(CANONICAL_DEPTH + 1))).toThrow(/too deep/);
});

test('a refusal names the place and never the value', () => {
  expect(() => canonical({ a: [1, { b: Number.NaN }] })).toThrow('a number that is not finite at /a/1/b');
});

test('the canonical form is JSON of the same value, whatever the order of its members was', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'grapheme' }), (value) => {
      const text = canonical(value);
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      expect(canonical(JSON.parse(text))).toBe(text);
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        expect(canonical(Object.fromEntries(Object.entries(value).reverse()))).toBe(text);
      }
    }),
  );
});
