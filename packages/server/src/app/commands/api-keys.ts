/** `tocsin api-keys create|list|revoke`. A new key is shown once; a running server knows of changes within a second. */
import { LIMITS } from '@tocsin/protocol/limits';
import { API_KEY_SCOPES, type ApiKey } from '../../identity/api-keys.ts';
import type { Identity } from '../../identity/identity.ts';
import type { ApiKeyScope } from '../../store/ports/identity.ts';
import { readArguments } from './arguments.ts';
import type { Command } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { formatTable } from './table.ts';
import { withIdentity } from './with-identity.ts';

const PAGE = 500;
/** Keys are never deleted; a list ends here all the same. */
const MOST_LISTED = 100_000;

/** `api-keys create`. */
export const createApiKeyCommand: Command = {
  name: 'api-keys create',
  usage: `--name <name> [--scopes ${API_KEY_SCOPES.join(',')}] [--json]`,
  summary: 'add an API key and show it once (scope ingest unless said otherwise)',
  async run(args, context) {
    const read = readArguments(args, {
      name: { type: 'string' },
      scopes: { type: 'string', default: 'ingest' },
      json: { type: 'boolean' },
    });
    const name = readName(read.text('name'));
    const scopes = readScopes(read.text('scopes') ?? '');
    const { id, key } = await withIdentity(context, ({ apiKeys }) => apiKeys.create(name, scopes));
    const shown = { id, name, scopes, key };
    context.terminal.out(
      read.flag('json')
        ? `${JSON.stringify(shown)}\n`
        : `${formatTable(['id', 'name', 'scopes'], [[id, name, scopes.join(',')]])}\nkey  ${key}\n`,
    );
    return EXIT.done;
  },
};

/** `api-keys list`. */
export const listApiKeysCommand: Command = {
  name: 'api-keys list',
  usage: '[--json]',
  summary: 'list API keys, revoked ones too; the keys themselves are not stored',
  async run(args, context) {
    const json = readArguments(args, { json: { type: 'boolean' } }).flag('json');
    const keys = await withIdentity(context, listAll);
    context.terminal.out(
      json ? `${JSON.stringify(keys)}\n` : formatTable(['id', 'name', 'scopes', 'created', 'revoked'], keys.map(rowOf)),
    );
    return EXIT.done;
  },
};

/** `api-keys revoke`. */
export const revokeApiKeyCommand: Command = {
  name: 'api-keys revoke',
  usage: '<id>',
  summary: 'end an API key, for good',
  async run(args, context) {
    const [id = ''] = readArguments(args, {}, { least: 1, most: 1 }).positionals;
    await withIdentity(context, ({ apiKeys }) => apiKeys.revoke(id));
    context.terminal.out(`revoked ${id}\n`);
    return EXIT.done;
  },
};

async function listAll({ apiKeys }: Identity): Promise<ApiKey[]> {
  const keys: ApiKey[] = [];
  let before: string | null = null;
  while (keys.length < MOST_LISTED) {
    const page: ApiKey[] = await apiKeys.list(before, PAGE);
    keys.push(...page);
    if (page.length < PAGE) break;
    before = page.at(-1)?.id ?? null;
  }
  return keys;
}

function rowOf(key: ApiKey): string[] {
  const day = (at: number | null): string => (at === null ? '' : new Date(at).toISOString());
  return [key.id, key.name, key.scopes.join(','), day(key.createdAt), day(key.revokedAt)];
}

function readName(text: string | undefined): string {
  const name = text?.trim() ?? '';
  const most = LIMITS.nameCharacters.value;
  if (name === '') throw new UsageError('--name is missing');
  if (name.length > most || /\p{Cc}/u.test(name))
    throw new UsageError(`--name may have ${most} characters, no control characters`);
  return name;
}

function readScopes(text: string): ApiKeyScope[] {
  const wanted = text.split(',').map((scope) => scope.trim());
  const scopes = API_KEY_SCOPES.filter((scope) => wanted.includes(scope));
  if (wanted.some((scope) => !API_KEY_SCOPES.some((known) => known === scope))) {
    throw new UsageError(`--scopes must be of ${API_KEY_SCOPES.join(', ')}`);
  }
  return scopes;
}
