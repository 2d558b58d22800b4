/** `tocsin migrate`: migrations only. Safe when several start at once and beside a running server. */
import { readArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { EXIT } from './exit-codes.ts';
import { withStore } from './with-identity.ts';

/** The command. */
export const migrateCommand: Command = {
  name: 'migrate',
  usage: '[--json]',
  summary: 'bring the database to this version, then end',
  async run(args, context) {
    const json = readArguments(args, { json: { type: 'boolean' } }).flag('json');
    const applied = await withStore(context, (store) => Promise.resolve(store.applied));
    if (json) context.terminal.out(`${JSON.stringify({ applied })}\n`);
    else if (applied.length === 0) context.terminal.out('nothing to do: the database is up to date\n');
    else context.terminal.out(applied.map((name) => `applied ${name}\n`).join(''));
    return EXIT.done;
  },
};
