/** The database engines that contract suites run on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findBinaries } from '@tocsin/server/store/embedded-binaries';

/** `private`: the embedded PostgreSQL 18. `postgis`: Debian's PostgreSQL 15 with PostGIS. */
export type Engine = 'private' | 'postgis';

const DEBIAN_FOLDER = '/usr/lib/postgresql/15';
const DEBIAN_POSTGIS = '/usr/share/postgresql/15/extension/postgis.control';

/** Folder with `bin/initdb` and `bin/postgres` of an engine; undefined when this machine lacks it. */
export function engineFolder(engine: Engine): string | undefined {
  if (engine === 'postgis') {
    return existsSync(DEBIAN_POSTGIS) && existsSync(join(DEBIAN_FOLDER, 'bin/initdb')) ? DEBIAN_FOLDER : undefined;
  }
  try {
    return findBinaries().folder;
  } catch {
    return undefined;
  }
}

/** The engines of this machine; contract suites run on each. */
export const engines: readonly Engine[] = (['private', 'postgis'] as const).filter(
  (engine) => engineFolder(engine) !== undefined,
);
