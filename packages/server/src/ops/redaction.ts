/**
 * What may be written down: copies of log fields without secrets and within bounds. Pure.
 *
 * Guarantees: a member whose name says that it is a secret becomes `[hidden]`, at any depth; so do `Bearer …` tokens,
 * secret query values and user parts of URLs inside any text. Text, lists, members and depth are bounded. Getters that
 * throw and cycles do no harm.
 */

const HIDDEN = '[hidden]';
/** Bounds of one field. */
const MOST_CHARACTERS = 4000;
const MOST_ENTRIES = 50;
const MOST_DEPTH = 6;

/** Names, without `-` and `_` and in lower case, whose values are secrets. */
const SECRET_NAMES: ReadonlySet<string> = new Set([
  'accesstoken',
  'adminpassword',
  'apikey',
  'authorization',
  'authtoken',
  'body',
  'clientkey',
  'clustersecret',
  'connectionstring',
  'cookie',
  'credential',
  'credentials',
  'databaseurl',
  'idtoken',
  'jws',
  'mqttpassword',
  'mqttusername',
  'newpassword',
  'nonce',
  'oldpassword',
  'passphrase',
  'password',
  'passwordhash',
  'payload',
  'privatekey',
  'proxyauthorization',
  'refreshtoken',
  'secret',
  'secrets',
  'secwebsocketprotocol',
  'session',
  'sessioncookie',
  'setcookie',
  'signature',
  'slackwebhookurl',
  'ticket',
  'token',
  'tocsinsession',
  'webhooksecret',
  'wsauthtoken',
  'xapikey',
  'xsignature',
]);

const SECRET_QUERY =
  /([?&](?:access_token|api_key|apikey|auth|authorization|code|key|nonce|password|refresh_token|secret|session|sig|signature|ticket|token)=)[^&#\s"']*/gi;
const BEARER = /\b(Bearer[ .,]\s*|Basic )[A-Za-z0-9._~+/=-]{4,}/gi;
const URL_USER = /(:\/\/)[^\s/?#@"']+@/g;
/** Keys that we make: a prefix and 43 characters of base64url. */
const KEY_OF_OURS = /\b(?:tsk|tocsin)_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])/g;
const COMPACT_JWS = /\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?/g;

/** True when a member of this name holds a secret. */
function isSecretName(name: string): boolean {
  return SECRET_NAMES.has(name.replaceAll(/[-_]/g, '').toLowerCase());
}

/** The text without tokens, secret query values and user parts of URLs, cut to its bound. */
export function redactText(text: string): string {
  // Cut first: the patterns then run over bounded text. A token cut in two is still hidden by what remains of it.
  const short = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
  return short
    .replaceAll(SECRET_QUERY, `$1${HIDDEN}`)
    .replaceAll(URL_USER, `$1${HIDDEN}@`)
    .replaceAll(BEARER, `$1${HIDDEN}`)
    .replaceAll(KEY_OF_OURS, HIDDEN)
    .replaceAll(COMPACT_JWS, HIDDEN);
}

/** A copy of log fields that may be written down. */
export function redactFields(fields: object): Record<string, unknown> {
  return fields instanceof Error ? { err: redactError(fields, 0) } : redactMembers(fields, 0);
}

function redactValue(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string':
      return redactText(value);
    case 'bigint':
      return value.toString();
    case 'function':
    case 'symbol':
      return undefined;
    case 'object':
      return value === null ? null : redactObject(value, depth);
    default:
      return value;
  }
}

function redactObject(value: object, depth: number): unknown {
  if (depth >= MOST_DEPTH) return '[deep]';
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof URL) return redactText(value.href);
  if (value instanceof Map) {
    const members = [...value]
      .slice(0, MOST_ENTRIES)
      .map(([name, member]: unknown[]) => [String(name), member] as const);
    return redactMembers(Object.fromEntries<unknown>(members), depth);
  }
  if (Array.isArray(value) || value instanceof Set) {
    return [...value].slice(0, MOST_ENTRIES).map((entry) => redactValue(entry, depth + 1));
  }
  return redactMembers(value, depth);
}

function redactMembers(value: object, depth: number): Record<string, unknown> {
  const copy: Record<string, unknown> = {};
  for (const name of Object.keys(value).slice(0, MOST_ENTRIES)) {
    copy[name] = isSecretName(name) ? HIDDEN : redactValue(readMember(value, name), depth + 1);
  }
  return copy;
}

function readMember(value: object, name: string): unknown {
  try {
    return (value as Record<string, unknown>)[name];
  } catch {
    return '[unreadable]';
  }
}

function redactError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    type: name,
    message: redactText(message),
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(stack === undefined ? {} : { stack: redactText(stack) }),
    ...(cause === undefined || depth >= MOST_DEPTH ? {} : { cause: redactValue(cause, depth + 1) }),
    ...(error instanceof AggregateError
      ? { errors: error.errors.slice(0, 5).map((each) => redactValue(each, depth + 1)) }
      : {}),
  };
}
