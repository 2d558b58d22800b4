/**
 * Pages of a list: newest first, `limit` 1..500 (default 50), an opaque cursor.
 * A cursor is base64url of a small JSON array, the sort key of the last item shown. It holds nothing secret and grants
 * nothing; what it holds is checked like any input.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import { Type, type TSchema } from 'typebox';
import { parseInteger } from './validation.ts';

/** The longest cursor that is looked at. */
const CURSOR_CHARACTERS = 512;

/** One page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** Cursor of the next page, null at the end. */
  readonly next: string | null;
}

/** The query parameters of a list, as they arrive. */
export interface PageQuery {
  readonly limit?: string;
  readonly cursor?: string;
}

/** The schemas of {@link PageQuery}, to spread into a route's own query. */
export const PAGE_QUERY: { readonly limit: TSchema; readonly cursor: TSchema } = {
  limit: Type.Optional(
    Type.String({ description: `1 to ${LIMITS.listMost.value}, ${LIMITS.listDefault.value} when absent` }),
  ),
  cursor: Type.Optional(Type.String({ description: 'the member `next` of the page before' })),
};

/** The type of each part of a list's sort key. */
export type CursorShape = readonly ('string' | 'number')[];

/** The schema of a page of `item`, for the documentation. */
export function pageOf(item: TSchema): TSchema {
  return Type.Object({ items: Type.Array(item), next: Type.Union([Type.String(), Type.Null()]) });
}

/** The `limit` of a list; refuses `malformed-parameter`. */
export function readLimit(query: PageQuery): number {
  return query.limit === undefined
    ? LIMITS.listDefault.value
    : parseInteger(query.limit, 'limit', 1, LIMITS.listMost.value);
}

/** Writes a cursor. */
export function writeCursor(key: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

/** Reads a cursor whose parts have the types of `shape`; null when there is none; refuses `malformed-parameter`. */
export function readCursor(query: PageQuery, shape: CursorShape): (string | number)[] | null {
  const { cursor } = query;
  if (cursor === undefined) return null;
  const key = cursor.length <= CURSOR_CHARACTERS && /^[A-Za-z0-9_-]+$/.test(cursor) ? decode(cursor) : undefined;
  if (!Array.isArray(key) || key.length !== shape.length || !key.every((part, index) => fits(part, shape[index]))) {
    throw refuse('malformed-parameter', 'cursor is not one of this list');
  }
  return key as (string | number)[];
}

function decode(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}

function fits(part: unknown, type: 'string' | 'number' | undefined): boolean {
  if (type === 'number') return Number.isSafeInteger(part);
  return typeof part === 'string' && part.length <= 256 && !part.includes('\0');
}

/**
 * Cuts a page out of `rows`, which were read with a limit of one more than `limit` so that the end shows.
 * `keyOf` is the sort key of a row.
 */
export function toPage<Row, Item>(
  rows: readonly Row[],
  limit: number,
  keyOf: (row: Row) => readonly (string | number)[],
  show: (row: Row) => Item,
): Page<Item> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return { items: shown.map(show), next: rows.length > limit && last !== undefined ? writeCursor(keyOf(last)) : null };
}
