/**
 * The tables that documents take from the code: each stands between `<!-- table: <name> -->` and `<!-- end -->`.
 * `npm run docs` writes them, a test compares them. Pure.
 */
import { CLOSE_POLICY } from '@tocsin/client/verdict';
import { DEVICE_ERRORS } from '@tocsin/device/device-error';
import { STATES } from '@tocsin/device/device-state';
import { TUNING } from '@tocsin/device/tuning';
import { verdictRows } from '@tocsin/device/verdict';
import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import { ERRORS } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { WIRE_VERSIONS } from '@tocsin/protocol/version';
import { AGENT_ARGUMENTS } from '@tocsin/server/app/commands/agent-options';
import { KEYS, NAMESPACES } from '@tocsin/server/bus/redis/keys';
import { createMetrics } from '@tocsin/server/ops/metrics';
import { ACTIONS } from './fixtures/answers.ts';
import { folderTable, libraryTable } from './import-table.ts';
import { markdownTable } from './markdown.ts';

/** One table in one document. */
export interface PageTable {
  readonly page: string;
  readonly name: string;
  readonly text: () => string;
}

/** Every generated table. */
export const PAGE_TABLES: readonly PageTable[] = [
  { page: 'docs/errors.md', name: 'errors', text: errorTable },
  { page: 'docs/devices-in-c-and-python.md', name: 'answers', text: answerTable },
  { page: 'docs/protocol.md', name: 'versions', text: versionTable },
  { page: 'docs/protocol.md', name: 'close codes', text: closeTable },
  { page: 'docs/protocol.md', name: 'limits', text: limitTable },
  { page: 'docs/device-sdk.md', name: 'verdicts', text: verdictTable },
  { page: 'docs/device-sdk.md', name: 'states', text: stateTable },
  { page: 'docs/device-sdk.md', name: 'tuning', text: tuningTable },
  { page: 'docs/device-sdk.md', name: 'device errors', text: deviceErrorTable },
  { page: 'docs/agent.md', name: 'agent options', text: agentTable },
  { page: 'docs/viewer-sdk.md', name: 'viewer close codes', text: viewerTable },
  { page: 'docs/operating.md', name: 'metrics', text: metricTable },
  { page: 'docs/redis.md', name: 'keys', text: keyTable },
  { page: 'docs/redis.md', name: 'namespaces', text: namespaceTable },
  { page: 'ARCHITECTURE.md', name: 'folders', text: folderTable },
  { page: 'ARCHITECTURE.md', name: 'libraries', text: libraryTable },
];

/** The text of `page` with the table `name` replaced. Throws when the page lacks its markers. */
export function withTable(page: string, name: string, table: string): string {
  const begin = `<!-- table: ${name} -->\n`;
  const from = page.indexOf(begin);
  const to = page.indexOf('<!-- end -->', from);
  if (from < 0 || to < 0) throw new Error(`the markers of the table "${name}" are missing`);
  return `${page.slice(0, from + begin.length)}${table}\n${page.slice(to)}`;
}

function errorTable(): string {
  const rows = Object.entries(ERRORS).map(([code, row]) => [`\`${code}\``, String(row.status), row.title]);
  return markdownTable(['code', 'status', 'title'], rows);
}

/** What a device does next, by what the server says; the same rows as in `answers.json`. */
function answerTable(): string {
  const codes = (action: string): string => {
    const rows = Object.entries(ERRORS).filter(([code]) => ACTIONS[code as keyof typeof ACTIONS] === action);
    const named = (status: number): string =>
      rows.flatMap(([code, row]) => (row.status === status ? [`\`${code}\``] : [])).join(' ');
    const statuses = [...new Set(rows.map(([, row]) => row.status))];
    return statuses.map((status) => `${status} ${named(status)}`).join(', ');
  };
  const rows = [
    ['`delivered`', `202, ${codes('delivered')}`, 'forgets the envelope'],
    ['`resign`', codes('resign'), 'sets its clock by `Date`, signs with the same `id` and a new `at`, sends at once'],
    [
      '`wait`',
      `${codes('wait')}, any answer without a code of ours, none at all`,
      'sends again after `Retry-After` (an hour at most), else after 1 s, doubling to 60 s, by chance half to all of it',
    ],
    ['`hold`', codes('hold'), 'keeps everything, tries again after minutes: a person has to act'],
    ['`set-aside`', codes('set-aside'), 'goes on with the next; this one is never taken as it is'],
  ];
  return markdownTable(['action', 'answer', 'the device'], rows);
}

function versionTable(): string {
  const rows = WIRE_VERSIONS.map(({ version, released, change }) => [version, released ? 'yes' : 'not yet', change]);
  return markdownTable(['version of the wire', 'released', 'change'], rows);
}

function closeTable(): string {
  const rows = Object.entries(CLOSE_CODES).map(([name, row]) => [
    String(row.code),
    `\`${name}\``,
    row.meaning,
    row.advice.replaceAll('-', ' ').replace('back off', 'back-off'),
  ]);
  return markdownTable(['code', 'name', 'meaning', 'the client should'], rows);
}

function limitTable(): string {
  const rows = Object.entries(LIMITS).map(([name, row]) => [`\`${name}\``, String(row.value), row.unit, row.prose]);
  return markdownTable(['name', 'value', 'unit', 'bounds'], rows);
}

/** What a viewer does after each close code. */
function viewerTable(): string {
  const rows = Object.entries(CLOSE_POLICY).map(([name, { code, pace, need }]) => [
    String(code),
    CLOSE_CODES[name as keyof typeof CLOSE_CODES].meaning,
    pace === null
      ? `ends, \`stopped\` with \`${name}\``
      : `${need === undefined ? '' : 'asks for a token that lasts, '}comes back: ${pace.firstMs} ms, doubling to ${pace.mostMs / 1000} s`,
  ]);
  return markdownTable(['code', 'meaning', 'the viewer'], rows);
}

function metricTable(): string {
  const metrics = createMetrics('');
  metrics.close();
  const rows = metrics.rows.map(({ name, kind, labels, help }) => [
    `\`${name}\``,
    kind,
    labels.map((label) => `\`${label}\``).join(', '),
    help,
  ]);
  return markdownTable(['name', 'kind', 'labels', 'is'], rows);
}

function verdictTable(): string {
  const rows = verdictRows().map(({ answer, action, own, reason }) => [
    answer,
    own ? `\`${action}\`, others first` : `\`${action}\``,
    `\`${reason}\``,
  ]);
  return markdownTable(['answer', 'verdict', 'reason'], rows);
}

function stateTable(): string {
  return markdownTable(
    ['state', 'meaning'],
    Object.entries(STATES).map(([state, meaning]) => [`\`${state}\``, meaning]),
  );
}

function tuningTable(): string {
  const rows = Object.entries(TUNING).map(([name, row]) => [
    `\`${name}\``,
    String(row.value),
    `${row.least} to ${row.most}`,
    row.prose,
  ]);
  return markdownTable(['option', 'default', 'range', 'is'], rows);
}

function deviceErrorTable(): string {
  const rows = Object.entries(DEVICE_ERRORS).map(([code, meaning]) => [`\`${code}\``, meaning]);
  return markdownTable(['code', 'means'], rows);
}

function agentTable(): string {
  const rows = AGENT_ARGUMENTS.map(({ name, value, fallback, prose }) => [
    `\`--${name}${value === undefined ? '' : ` ${value}`}\``,
    fallback,
    prose,
  ]);
  return markdownTable(['option', 'default', 'is'], rows);
}

function keyTable(): string {
  const rows = Object.values(KEYS).map((row) => [`\`${row.pattern}\``, row.type, row.holds, row.expiry, row.tag]);
  return markdownTable(['key', 'type', 'holds', 'expires', 'hash tag'], rows);
}

function namespaceTable(): string {
  const rows = NAMESPACES.map((row) => [`\`${row.namespace}\``, row.use, row.held]);
  return markdownTable(['namespace', 'use', 'held in'], rows);
}
