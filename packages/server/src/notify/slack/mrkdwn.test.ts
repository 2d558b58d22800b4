import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { escapeMrkdwn } from './mrkdwn.ts';

describe('outside text in mrkdwn', () => {
  it.each([
    ['<!channel> & <@U1|x>', '&lt;!channel&gt; &amp; &lt;@\u2060U1|x&gt;'],
    ['see https://evil.example', 'see https:\u2060//evil.example'],
    ['```rm -rf```', '\u2019\u2019\u2019rm -rf\u2019\u2019\u2019'],
    ['one\r\ntwo\u2028three\u0000\u202E', 'one two three'],
    ['@here', '@\u2060here'],
    ['&lt;!here&gt;', '&amp;lt;!here&amp;gt;'],
  ])('%j shows what it says and does nothing', (text, shown) => {
    expect(escapeMrkdwn(text, 200)).toBe(shown);
  });

  it('is cut by whole characters', () => {
    expect(escapeMrkdwn('😀'.repeat(9), 4)).toBe('😀😀😀…');
  });

  it('is one bounded line without a bracket, a backtick, a URL, a mention or a control character, whatever it was', () => {
    const nasty = fc.constantFrom(
      '<',
      '>',
      '&',
      '!',
      '@',
      '`',
      '|',
      '\n',
      '\u2028',
      '\u202E',
      '\u2060',
      '://',
      'http',
      'channel',
      'www.',
      'mailto:',
      'a',
      '\uD83D',
    );
    const texts = fc.oneof(
      fc.array(fc.nat(0x10ffff)).map((points) => String.fromCodePoint(...points)),
      fc.array(nasty).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(texts, fc.integer({ min: 1, max: 50 }), (text, most) => {
        const shown = escapeMrkdwn(text, most);
        expect(shown).not.toMatch(
          /[<>`\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]|:\/\/|@\w|www\.|mailto:|&(?!(?:amp|lt|gt);)/iu,
        );
        expect(shown).not.toMatch(/\p{Surrogate}/u);
        const plain = shown.replaceAll(/\u2060/g, '').replaceAll(/&(?:amp|lt|gt);/g, '.');
        expect([...new Intl.Segmenter().segment(plain)].length).toBeLessThanOrEqual(most);
      }),
      { numRuns: 500 },
    );
  });
});
