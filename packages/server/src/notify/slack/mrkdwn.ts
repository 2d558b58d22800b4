/**
 * Text that came from outside, made fit for Slack's mrkdwn. Pure.
 *
 * Guarantees: one line; no control characters, none that turn the direction of text around; no mention, channel, special command or
 * link can come of it (Slack reads them between `<` and `>` only, and makes links of URLs itself), no code and no block of code; at
 * most `most` characters of what was given. Source: docs.slack.dev, "Formatting message text", Escaping text.
 */

const BREAKS = /[\t\n\v\f\r\u0085\u2028\u2029]+/g;
const UNSEEN =
  /[\u0000-\u001F\u007F-\u009F\u200B-\u200F\u202A-\u202E\u2060-\u2069\uFEFF]|\p{Surrogate}|\p{Noncharacter_Code_Point}/gu;
/** Between the parts of what Slack would make a link or a mention of: it has no width, and no line breaks there. */
const JOINER = '\u2060';
const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

/** A text as mrkdwn that shows it as it is. */
export function escapeMrkdwn(text: string, most: number): string {
  const looked = text.slice(0, 4 * most);
  const plain = Array.from(looked.replace(BREAKS, ' ').replace(UNSEEN, '').trim());
  const short = plain.length > most ? `${plain.slice(0, most - 1).join('')}…` : plain.join('');
  return short
    .replaceAll('`', '\u2019')
    .replaceAll(/:(?=\/\/)|@(?=\S)|www(?=\.)|mailto(?=:)/gi, (part) => `${part}${JOINER}`)
    .replaceAll(/[&<>]/g, (sign) => ENTITIES[sign] ?? '');
}
