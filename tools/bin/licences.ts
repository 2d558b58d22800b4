/** Prints every package whose licence does not fit; exit code 1 when there is one. */
import { checkLicences } from '../src/licences.ts';

const { packages, refused } = checkLicences();
for (const line of refused) process.stdout.write(`${line}\n`);
process.stdout.write(`licences: ${packages} packages, ${refused.length} refused\n`);
process.exitCode = refused.length === 0 ? 0 : 1;
