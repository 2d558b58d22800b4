/**
 * `tocsin users create`. The password comes from standard input, from a prompt that does not show it, or is generated
 * and shown once; never from an argument, which other people of the machine could read.
 */
import { newPassword } from '../../identity/passwords.ts';
import type { UserRole } from '../../store/ports/identity.ts';
import { type Arguments, readArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { formatTable } from './table.ts';
import type { Terminal } from './terminal.ts';
import { withIdentity } from './with-identity.ts';

const ROLES: readonly UserRole[] = ['admin', 'operator', 'viewer'];

/** The command. */
export const createUserCommand: Command = {
  name: 'users create',
  usage: '--email <address> [--role admin|operator|viewer] [--password-stdin | --generate] [--json]',
  summary: 'add a person (role viewer unless said otherwise)',
  async run(args, { terminal, ...rest }) {
    const read = readArguments(args, {
      email: { type: 'string' },
      role: { type: 'string', default: 'viewer' },
      'password-stdin': { type: 'boolean' },
      generate: { type: 'boolean' },
      json: { type: 'boolean' },
    });
    const email = read.text('email');
    if (email === undefined) throw new UsageError('--email is missing');
    const role = ROLES.find((known) => known === read.text('role'));
    if (role === undefined) throw new UsageError(`--role must be ${ROLES.join(' or ')}`);
    const { password, generated } = await obtainPassword(read, terminal);
    const user = await withIdentity({ terminal, ...rest }, ({ users }) => users.create({ email, password, role }));
    const shown = { id: user.id, email: user.email, role: user.role, ...(generated ? { password } : {}) };
    terminal.out(
      read.flag('json') ? `${JSON.stringify(shown)}\n` : formatTable(Object.keys(shown), [Object.values(shown)]),
    );
    return EXIT.done;
  },
};

async function obtainPassword(read: Arguments, terminal: Terminal): Promise<{ password: string; generated: boolean }> {
  if (read.flag('generate') && read.flag('password-stdin')) {
    throw new UsageError('--generate and --password-stdin exclude one another');
  }
  if (read.flag('password-stdin')) return { password: await terminal.readLine(), generated: false };
  if (read.flag('generate') || !terminal.interactive) return { password: newPassword(), generated: true };
  const password = await terminal.askSecret('Password (empty: generate one): ');
  if (password === '') return { password: newPassword(), generated: true };
  if ((await terminal.askSecret('Again: ')) !== password) throw new UsageError('the passwords differ');
  return { password, generated: false };
}
