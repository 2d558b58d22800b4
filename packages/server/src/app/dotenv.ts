/**
 * A `.env` file: text to variables. Pure.
 *
 * Accepted: `NAME=value`, `export NAME=value`, empty lines, `#` comments (after a value: when a space is before it),
 * 'single quotes' (literal), "double quotes" (with \n \r \t \" \\), LF or CRLF, a byte order mark. Values stay on one line;
 * nothing is expanded. Of two equal names the later one counts.
 * Failure: every line that is none of these is a mistake with its number; its text is not repeated.
 */

/** What was read. */
export interface DotenvContent {
  readonly variables: ReadonlyMap<string, string>;
  /** One readable line each. */
  readonly mistakes: readonly string[];
}

/** Largest file, in characters. */
const MOST_DOTENV_CHARACTERS = 262_144;

const ASSIGNMENT = /^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)$/;
const SINGLE_QUOTED = /^'([^']*)'[ \t]*(?:#.*)?$/;
const DOUBLE_QUOTED = /^"((?:[^"\\]|\\.)*)"[ \t]*(?:#.*)?$/;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\', $: '$' };

/** Reads the text of a `.env` file. */
export function parseDotenv(text: string): DotenvContent {
  if (text.length > MOST_DOTENV_CHARACTERS) {
    return { variables: new Map(), mistakes: [`.env is larger than ${MOST_DOTENV_CHARACTERS} characters`] };
  }
  const variables = new Map<string, string>();
  const mistakes: string[] = [];
  for (const [index, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const match = ASSIGNMENT.exec(line);
    const value = match === null ? undefined : readValue(match[2] ?? '');
    if (match === null) mistakes.push(`.env line ${index + 1} must be NAME=value, a comment or empty`);
    else if (value === undefined)
      mistakes.push(`.env line ${index + 1} (${match[1]}) has a quote that does not close or text after it`);
    else variables.set(match[1] ?? '', value);
  }
  return { variables, mistakes };
}

function readValue(text: string): string | undefined {
  if (text.startsWith("'")) return SINGLE_QUOTED.exec(text)?.[1];
  if (text.startsWith('"')) {
    const inner = DOUBLE_QUOTED.exec(text)?.[1];
    return inner?.replace(/\\(.)/g, (whole, letter: string) => ESCAPES[letter] ?? whole);
  }
  return text.startsWith('#') ? '' : text.replace(/[ \t]+#.*$/, '');
}
