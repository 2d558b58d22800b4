/**
 * The command line: which command, its help, and what errors become. Loads nothing but the command that is asked for:
 * an agent has to be small. Exit codes: 0 done, 1 failed, 64 wrong use, 69 a
 * server cannot be reached, 78 bad settings.
 */
import { VERSION } from '../version.ts';
import type { Command, CommandContext } from './command.ts';
import { EXIT, type ExitCode, endingOf } from './exit-codes.ts';

/** A command by its name, with the way to load it. */
export interface CommandRow {
  /** Its words, for example `users create`. */
  readonly name: string;
  /** What it runs on (a database, a web server, …) is loaded only here. */
  readonly load: () => Promise<Command>;
}

/** Every command, in the order of the help. */
export const COMMANDS: readonly CommandRow[] = [
  { name: 'serve', load: async () => (await import('./serve.ts')).serveCommand },
  { name: 'migrate', load: async () => (await import('./migrate.ts')).migrateCommand },
  { name: 'users create', load: async () => (await import('./users.ts')).createUserCommand },
  { name: 'api-keys create', load: async () => (await import('./api-keys.ts')).createApiKeyCommand },
  { name: 'api-keys list', load: async () => (await import('./api-keys.ts')).listApiKeysCommand },
  { name: 'api-keys revoke', load: async () => (await import('./api-keys.ts')).revokeApiKeyCommand },
  { name: 'keys rotate', load: async () => (await import('./keys.ts')).rotateKeysCommand },
  {
    name: 'notifications list',
    load: async () => (await import('./notifications.ts')).listNotificationsCommand,
  },
  {
    name: 'notifications retry',
    load: async () => (await import('./notifications.ts')).retryNotificationsCommand,
  },
  { name: 'agent', load: async () => (await import('./agent.ts')).agentCommand },
  { name: 'simulate', load: async () => (await import('./simulate.ts')).simulateCommand },
  { name: 'replay', load: async () => (await import('./replay.ts')).replayCommand },
];

/** Runs the command that `args` name; answers the exit code and never rejects. */
export async function runCommandLine(args: readonly string[], context: CommandContext): Promise<ExitCode> {
  const { terminal } = context;
  const [first = 'help'] = args;
  if (['--version', '-v', 'version'].includes(first)) {
    terminal.out(`${VERSION}\n`);
    return EXIT.done;
  }
  const row = COMMANDS.find(({ name }) => name === args.slice(0, name.split(' ').length).join(' '));
  const wantsHelp = ['help', '--help', '-h'].includes(first);
  if (row === undefined) {
    if (!wantsHelp) terminal.err(`tocsin: there is no command "${clean(args.slice(0, 2).join(' '))}"\n\n`);
    (wantsHelp ? terminal.out : terminal.err)(
      await describeAll(wantsHelp && args.length > 1 ? args.slice(1).join(' ') : ''),
    );
    return wantsHelp ? EXIT.done : EXIT.usage;
  }
  const command = await row.load();
  const rest = args.slice(row.name.split(' ').length);
  if (rest.includes('--help') || rest.includes('-h')) {
    terminal.out(describeOne(command));
    return EXIT.done;
  }
  return run(command, rest, context);
}

async function run(command: Command, args: readonly string[], context: CommandContext): Promise<ExitCode> {
  try {
    return await command.run(args, context);
  } catch (error) {
    const ending = endingOf(error);
    for (const line of ending.lines) context.terminal.err(`${line}\n`);
    if (!ending.expected && error instanceof Error) context.terminal.err(`${error.stack ?? ''}\n`);
    if (ending.code === EXIT.usage) context.terminal.err(describeOne(command));
    return ending.code;
  }
}

const COLUMNS = 100;

function describeOne({ name, usage, summary }: Command): string {
  return `${wrapped(`usage: tocsin ${name} ${usage}`)}\n  ${summary}\n`;
}

/** A line of usage in lines of at most {@link COLUMNS}, broken before an option. */
function wrapped(usage: string): string {
  const lines: string[] = [];
  for (const part of usage.trimEnd().split(/ (?=\[)/)) {
    const line = lines.at(-1);
    if (line === undefined) lines.push(part);
    else if (line.length + part.length < COLUMNS) lines[lines.length - 1] = `${line} ${part}`;
    else lines.push(`      ${part}`);
  }
  return lines.join('\n');
}

/** The help; of the commands that begin with `prefix`. */
async function describeAll(prefix: string): Promise<string> {
  const matching = COMMANDS.filter(({ name }) => name.startsWith(prefix));
  const shown = await Promise.all((matching.length === 0 ? COMMANDS : matching).map(({ load }) => load()));
  const lines = shown.map(({ name, usage, summary }) => `${wrapped(`  tocsin ${name} ${usage}`)}\n      ${summary}\n`);
  return `usage: tocsin <command> [options]\n\n${lines.join('')}\nSettings come from the environment and from .env: see docs/settings.md.\n`;
}

function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?').slice(0, 60);
}
