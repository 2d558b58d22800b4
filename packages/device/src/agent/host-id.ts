/** A device's id made of a machine's name. Pure. */
import { isIdentifier } from '@tocsin/protocol/identifiers';

const MOST = 64;
/** Names that tell nothing: many machines have them. */
const NAMELESS: ReadonlySet<string> = new Set(['', 'localhost', 'localhost.localdomain', '(none)']);

/**
 * The id, with `-` for what an id may not hold, cut to its length; null when the name says nothing, so that two machines
 * would be one.
 */
export function hostId(hostname: string): string | null {
  if (NAMELESS.has(hostname.toLowerCase())) return null;
  const id = hostname
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replaceAll(/^[-.]+|[-.]+$/g, '')
    .slice(0, MOST);
  return isIdentifier(id) ? id : null;
}
