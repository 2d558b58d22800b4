/** Prints every breach of the import rules; exit code 1 when there is one. */
import { checkCheckout } from '../src/import-rules.ts';

const { modules, violations } = checkCheckout();
for (const { reason, path, detail } of violations) process.stdout.write(`${path}: ${reason}: ${detail}\n`);
process.stdout.write(`import rules: ${modules} modules, ${violations.length} violations\n`);
process.exitCode = violations.length === 0 ? 0 : 1;
