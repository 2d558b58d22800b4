/**
 * What a name may look like on the wire. One pattern for devices, zones and envelopes: it cannot carry
 * white space, markup, path separators or control characters, so an identifier is safe in a log line,
 * a URL path and a chat message without escaping.
 */

/** The pattern of every identifier, as text (for schemas). */
export const IDENTIFIER_PATTERN = '^[A-Za-z0-9._-]{1,64}$';

const identifier: RegExp = new RegExp(IDENTIFIER_PATTERN);

/** True when `value` is a string that matches {@link IDENTIFIER_PATTERN}. */
export function isIdentifier(value: unknown): value is string {
  return typeof value === 'string' && identifier.test(value);
}
