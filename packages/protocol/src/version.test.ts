import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CLOSE_CODES } from './close-codes.ts';
import { ERRORS } from './errors.ts';
import { LIMITS } from './limits.ts';
import { WIRE_VERSIONS } from './version.ts';

/** Shapes of the wire live in these files. */
const SHAPES = ['alert.ts', 'envelope.ts', 'frame.ts', 'identifiers.ts', 'messages.ts'] as const;

/** A source without what does not change its meaning: comments, imports, white space, optional commas and bars. */
function essence(source: string): string {
  return source
    .replaceAll(/\/\*[\s\S]*?\*\//g, '')
    .replaceAll(/^\s*\/\/.*$/gm, '')
    .replaceAll(/^import .*;$/gm, '')
    .replaceAll(/\s+/g, '')
    .replaceAll(/,([}\])])/g, '$1')
    .replaceAll(/([=<(:])\|/g, '$1');
}

function sorted(rows: Readonly<Record<string, readonly (string | number)[]>>): string {
  return JSON.stringify(Object.entries(rows).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function wireHash(): string {
  const errors = Object.fromEntries(Object.entries(ERRORS).map(([code, row]) => [code, [row.status]]));
  const closes = Object.fromEntries(Object.values(CLOSE_CODES).map((row) => [String(row.code), [row.advice]]));
  const limits = Object.fromEntries(Object.entries(LIMITS).map(([name, row]) => [name, [row.value, row.unit]]));
  const shapes = SHAPES.map((name) => essence(readFileSync(new URL(name, import.meta.url), 'utf8')));
  const whole = [sorted(errors), sorted(closes), sorted(limits), ...shapes].join('\n');
  return createHash('sha256').update(whole).digest('hex').slice(0, 16);
}

describe('the wire', () => {
  it('does not change without an entry in version.ts (or, before its release, a new hash in the newest one)', () => {
    expect(WIRE_VERSIONS.at(-1)?.hash).toBe(wireHash());
  });

  it('has versions that rise, each with its own hash, and only the newest may be unreleased', () => {
    const numbers = WIRE_VERSIONS.map(({ version }) => version.split('.').map(Number)).map(
      ([a = 0, b = 0]) => a * 1000 + b,
    );
    expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b));
    expect(new Set(WIRE_VERSIONS.map(({ hash }) => hash)).size).toBe(WIRE_VERSIONS.length);
    expect(WIRE_VERSIONS.slice(0, -1).every(({ released }) => released)).toBe(true);
  });

  it('is not touched by comments, white space or the formatter', () => {
    expect(essence("/** a */\nexport type A =\n  | 'x'\n  | 'z';\n")).toBe("exporttypeA='x'|'z';");
    expect(essence('const a = [\n  1,\n];')).toBe(essence('const a = [1];'));
  });
});
