/** `tocsin keys rotate`: new signing keys. Running servers sign with them within 10 s; old signatures stay checkable. */
import type { KeyPurpose } from '../../store/ports/identity.ts';
import { readArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { formatTable } from './table.ts';
import { withIdentity } from './with-identity.ts';

const PURPOSES: readonly KeyPurpose[] = ['token', 'alert', 'command'];

/** The command. */
export const rotateKeysCommand: Command = {
  name: 'keys rotate',
  usage: `[--purpose ${PURPOSES.join('|')}] [--json]`,
  summary: 'make new signing keys (all of them unless one is named)',
  async run(args, context) {
    const read = readArguments(args, { purpose: { type: 'string' }, json: { type: 'boolean' } });
    const named = read.text('purpose');
    const purposes = named === undefined ? PURPOSES : PURPOSES.filter((purpose) => purpose === named);
    if (purposes.length === 0) throw new UsageError(`--purpose must be ${PURPOSES.join(' or ')}`);
    const kids = await withIdentity(context, (identity) => identity.rotateKeys(purposes));
    const rows = purposes.map((purpose, index) => ({ purpose, kid: kids[index] ?? '' }));
    context.terminal.out(
      read.flag('json')
        ? `${JSON.stringify(rows)}\n`
        : formatTable(
            ['purpose', 'kid'],
            rows.map((row) => [row.purpose, row.kid]),
          ),
    );
    return EXIT.done;
  },
};
