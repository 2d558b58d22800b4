import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDotenv } from './dotenv.ts';

describe('.env', () => {
  it('reads assignments, exports, comments, quotes and Windows line ends', () => {
    const text = [
      '\uFEFF# comment',
      'A=1',
      '  export B = two words # said',
      "C='single # \\n kept' # comment",
      'D="line\\nbreak \\"quoted\\" \\$"',
      'E=',
      'F=#nothing',
      'G=a#b',
      'URL=postgres://u:p=q@h/db?x=1',
      '',
      'A=2',
    ].join('\r\n');
    const { variables, mistakes } = parseDotenv(text);
    expect(mistakes).toEqual([]);
    expect(Object.fromEntries(variables)).toEqual({
      A: '2',
      B: 'two words',
      C: 'single # \\n kept',
      D: 'line\nbreak "quoted" $',
      E: '',
      F: '',
      G: 'a#b',
      URL: 'postgres://u:p=q@h/db?x=1',
    });
  });

  it('names each malformed line by its number and never repeats it', () => {
    const { mistakes } = parseDotenv("A=1\nhunter2 secret\nB=\"open\nC='x' y\n1D=2\n");
    expect(mistakes).toHaveLength(4);
    for (const [index, line] of [2, 3, 4, 5].entries()) expect(mistakes[index]).toContain(`line ${line}`);
    expect(mistakes.join()).not.toContain('hunter2');
    expect(mistakes.join()).not.toContain('open');
  });

  it('refuses a file beyond its bound', () => {
    expect(parseDotenv('#'.repeat(300_000)).mistakes).toHaveLength(1);
  });

  it('gives back every value that was written in double quotes', () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const escaped = value
          .replaceAll('\\', '\\\\')
          .replaceAll('"', '\\"')
          .replaceAll('\n', '\\n')
          .replaceAll('\r', '\\r');
        expect(parseDotenv(`X="${escaped}"`).variables.get('X')).toBe(value);
      }),
    );
  });

  it('reads any text without throwing, in time that grows with its length only', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 2000 }), (text) => {
        const { variables, mistakes } = parseDotenv(text);
        expect(variables.size + mistakes.length).toBeLessThanOrEqual(text.split('\n').length);
      }),
    );
  });
});
