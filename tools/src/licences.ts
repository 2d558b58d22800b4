/**
 * Licences of everything that npm installs, from the lock file: what we ship may be permissive only, tools may carry a
 * few more. Pure but for {@link checkLicences}.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './modules.ts';

/** Licences that may be in what we ship. */
export const SHIPPED: readonly string[] = [
  'Apache-2.0',
  'MIT',
  'MIT-0',
  'ISC',
  '0BSD',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC0-1.0',
  'PostgreSQL',
  'Unlicense',
];

/** Licences that may be in our tools too: they are used, not shipped. */
export const USED: readonly string[] = [...SHIPPED, 'MPL-2.0', 'CC-BY-3.0', 'CC-BY-4.0', 'Python-2.0'];

/** One package of the lock file. */
export interface LockedPackage {
  readonly version?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly link?: boolean;
}

/** Packages whose licence does not fit, one line each. Throws when there are no packages to look at. */
export function checkLicences(root: string = ROOT): { readonly packages: number; readonly refused: string[] } {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, LockedPackage>>;
  };
  const foreign = Object.entries(lock.packages).filter(
    ([path, one]) => path.includes('node_modules/') && one.link !== true,
  );
  if (!foreign.some(([, one]) => one.dev !== true))
    throw new Error('the licence check saw no packages that are shipped');
  return { packages: foreign.length, refused: foreign.flatMap(([path, one]) => refusal(path, one)) };
}

/** Why a package may not be there; empty when it may. */
export function refusal(path: string, one: LockedPackage): string[] {
  const name = path.replace(/^.*node_modules\//, '');
  if (one.license === undefined) return [`${name} ${one.version ?? ''} names no licence`];
  if (satisfies(one.license, one.dev === true ? USED : SHIPPED)) return [];
  return [`${name} ${one.version ?? ''} is under ${one.license}`];
}

/** True when an SPDX expression (AND, OR, one level of parentheses) can be met with `allowed`. */
export function satisfies(expression: string, allowed: readonly string[]): boolean {
  const bare = expression.trim().replace(/^\(([^()]*)\)$/, '$1');
  return bare
    .split(/ OR /)
    .some((choice) =>
      choice.split(/ AND /).every((licence) => allowed.includes(licence.replaceAll(/[()]/g, '').trim())),
    );
}
