/**
 * The canonical form of a JSON value (RFC 8785), which signatures are made over. Pure.
 *
 * Keys by UTF-16 units; numbers and texts as ECMAScript writes them, which is what the RFC asks for.
 */

/** Deeper than this nothing that we are sent is. */
const DEPTH_MOST = 64;

/** The canonical form. Throws a RangeError when the value is nested too deep, or holds what is no number of JSON. */
export function canonical(value: unknown, depth = 0): string {
  // `1e999` in a text is Infinity here, and would be written as the `null` that was signed.
  if (depth > DEPTH_MOST || Math.abs(value as number) === Infinity) throw new RangeError('not JSON');
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth + 1)).join()}]`;
  const members = value as Readonly<Record<string, unknown>>;
  // Without a comparison `sort` compares UTF-16 units.
  const texts = Object.keys(members)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(members[key], depth + 1)}`);
  return `{${texts.join()}}`;
}
