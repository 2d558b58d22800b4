/** `tocsin notifications list|retry`: destinations, and what they would not take. Beside a running server, too. */
import { ALERT_CHANNEL } from '../../alerts/ledger.ts';
import {
  DEAD_LETTERS_KEPT,
  type DeadLetter,
  type DestinationReport,
  type LetterChoice,
} from '../../store/ports/notifications.ts';
import { createNotificationStore } from '../../store/postgres/notifications.ts';
import { readArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { formatTable } from './table.ts';
import { withStore } from './with-identity.ts';

/** Dead letters that the table shows; `--json` shows all. */
const SHOWN = 50;
/** Ids that may be named at once. */
const MOST_IDS = 1000;

/** `notifications list`. */
export const listNotificationsCommand: Command = {
  name: 'notifications list',
  usage: '[--json]',
  summary: 'show the destinations of notifications, how far behind they are, and dead letters, newest first',
  async run(args, context) {
    const json = readArguments(args, { json: { type: 'boolean' } }).flag('json');
    const { destinations, deadLetters } = await withStore(context, async ({ db }) => {
      const store = createNotificationStore(db, ALERT_CHANNEL);
      return {
        destinations: await store.list(),
        deadLetters: await store.deadLetters({}, json ? DEAD_LETTERS_KEPT : SHOWN),
      };
    });
    context.terminal.out(
      json ? `${JSON.stringify({ destinations, deadLetters })}\n` : tables(destinations, deadLetters),
    );
    return EXIT.done;
  },
};

/** `notifications retry`. */
export const retryNotificationsCommand: Command = {
  name: 'notifications retry',
  usage: '[--destination <name>] [--id <id>,…] [--json]',
  summary: 'send dead letters again: all, those of one destination, or these; a running worker does it',
  async run(args, context) {
    const read = readArguments(args, {
      destination: { type: 'string' },
      id: { type: 'string' },
      json: { type: 'boolean' },
    });
    const choice: LetterChoice = { destination: read.text('destination'), ids: readIds(read.text('id')) };
    const { known, requested } = await withStore(context, async ({ db }) => {
      const store = createNotificationStore(db, ALERT_CHANNEL);
      const names = (await store.list()).map(({ destination }) => destination);
      return {
        known: choice.destination === undefined || names.includes(choice.destination),
        requested: await store.request(choice, Date.now()),
      };
    });
    if (!known) {
      context.terminal.err('there is no such destination: see tocsin notifications list\n');
      return EXIT.failed;
    }
    context.terminal.out(
      read.flag('json') ? `${JSON.stringify({ requested })}\n` : `dead letters that will be sent again: ${requested}\n`,
    );
    return EXIT.done;
  },
};

function readIds(text: string | undefined): number[] | undefined {
  if (text === undefined) return undefined;
  const ids = text.split(',').map((part) => part.trim());
  if (ids.length > MOST_IDS || !ids.every((id) => /^[1-9]\d{0,15}$/.test(id))) {
    throw new UsageError(`--id must be ids of dead letters separated by commas, at most ${MOST_IDS}`);
  }
  return ids.map(Number);
}

function tables(destinations: readonly DestinationReport[], letters: readonly DeadLetter[]): string {
  if (destinations.length === 0) return 'there are no destinations: see docs/notifications.md\n';
  const standing = formatTable(
    ['destination', 'position', 'lag', 'held', 'told', 'dead letters', 'lost', 'attempts', 'last error', 'last told'],
    destinations.map((row) => [
      row.destination,
      String(row.position),
      String(row.lag),
      row.held ? 'yes' : 'no',
      String(row.told),
      String(row.letters),
      String(row.lost),
      String(row.attempts),
      row.lastError === null ? '' : `${row.lastError} ${timeOf(row.lastErrorAt)}`,
      timeOf(row.lastSentAt),
    ]),
  );
  if (letters.length === 0) return standing;
  const dead = formatTable(
    ['id', 'destination', 'alert', 'revision', 'event', 'reason', 'since', 'retry'],
    letters.map((letter) => [
      String(letter.id),
      letter.destination,
      letter.alertId,
      String(letter.revision),
      letter.event,
      letter.reason,
      timeOf(letter.diedAt),
      letter.requestedAt === null ? '' : 'asked for',
    ]),
  );
  return `${standing}\n${dead}`;
}

function timeOf(at: number | null): string {
  return at === null ? '' : new Date(at).toISOString();
}
