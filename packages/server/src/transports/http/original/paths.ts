/** Paths of the original client: each is written with or without a slash at its end; the second form stays out of the docs. */
import { refuse } from '@tocsin/protocol/refusal-error';

/** A path and whether the documentation hides it. */
export interface OriginalPath {
  readonly url: string;
  readonly hide: boolean;
}

/** Both forms of a path; the one given is the documented one. */
export function bothForms(path: string): readonly OriginalPath[] {
  const other = path.endsWith('/') ? path.slice(0, -1) : `${path}/`;
  return [
    { url: path, hide: false },
    { url: other, hide: true },
  ];
}

/** The integer of a path; refuses `malformed-parameter`. */
export function readNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw refuse('malformed-parameter', 'id must be a whole number');
  return Number(text);
}
