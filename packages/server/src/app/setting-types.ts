/**
 * What a setting's text may be: parsers from text to value. Pure, except for those of files, which look at the disk.
 * Each answers the value or `undefined`; `expects` completes the sentence "<NAME> must be …".
 */
import { constants, accessSync, readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { parseRedisNode, parseRedisUrl } from '../bus/redis/place.ts';
import { readMailPlace } from '../notify/email/place.ts';
import { readWebhookSecret } from '../notify/webhook/signature.ts';

/** A kind of value. `hidden`: a bad text is not repeated in the mistake (it may hold a secret). */
export interface SettingType<Value> {
  readonly expects: string;
  readonly hidden?: boolean;
  /** The value, or undefined when the text is none. `cwd` is where relative paths start. */
  parse(text: string, cwd: string): Value | undefined;
}

/** Longest list that a setting may hold. */
const MOST_ENTRIES = 1000;
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$/;
const DECIMAL = /^\d{1,15}(?:\.\d{1,3})?$/;
const E_MAIL = /^[^\s@\p{Cc}\p{Cf}"(),:;<>[\\\]]{1,64}@[A-Za-z0-9.-]{1,189}$/u;

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): SettingType<number> {
  return {
    expects: `a whole number from ${least} to ${most}`,
    parse: (text) => (/^\d{1,15}$/.test(text) ? within(Number(text), least, most) : undefined),
  };
}

/** A number with at most three decimals (so that seconds are whole milliseconds). */
export function decimal(least: number, most: number): SettingType<number> {
  return {
    expects: `a number from ${least} to ${most}`,
    parse: (text) => (DECIMAL.test(text) ? within(Number(text), least, most) : undefined),
  };
}

/** What `type` takes, or the word `off` (null). */
export function orOff<Value>(type: SettingType<Value>): SettingType<Value | null> {
  return {
    ...type,
    expects: `${type.expects}, or off`,
    parse: (text, cwd) => (text.toLowerCase() === 'off' ? null : type.parse(text, cwd)),
  };
}

/** One of these words, in any case. `aliases` are other words for them. */
export function oneOf<const Word extends string>(
  words: readonly Word[],
  aliases: Readonly<Record<string, Word>> = {},
): SettingType<Word> {
  return {
    expects: words.join(' or '),
    parse: (text) => {
      const lower = text.toLowerCase();
      return (
        words.find((word) => word.toLowerCase() === lower) ??
        (Object.hasOwn(aliases, lower) ? aliases[lower] : undefined)
      );
    },
  };
}

/** `true` or `false`, in any case. */
export const trueOrFalse: SettingType<boolean> = {
  expects: 'true or false',
  parse: (text) => ({ true: true, false: false })[text.toLowerCase()],
};

/** Any text without control characters. */
export const anyText: SettingType<string> = {
  expects: 'text of at most 200 characters',
  parse: (text) => (text.length <= 200 && !/\p{Cc}/u.test(text) ? text : undefined),
};

/** A secret: visible characters (spaces inside are fine). */
export function secret(least: number, most: number): SettingType<string> {
  return {
    expects: `${least} to ${most} characters, none of them a control character`,
    hidden: true,
    parse: (text) => (text.length >= least && text.length <= most && !/\p{Cc}/u.test(text) ? text : undefined),
  };
}

/** A secret that travels in a header or a URL: ASCII without spaces. */
export function token(least: number, most: number): SettingType<string> {
  return {
    expects: `${least} to ${most} visible ASCII characters without spaces`,
    hidden: true,
    parse: (text) => (text.length >= least && text.length <= most && /^[\x21-\x7e]+$/.test(text) ? text : undefined),
  };
}

/** An e-mail address, in lower case. */
export const eMail: SettingType<string> = {
  expects: 'an e-mail address',
  parse: (text) => (text.length <= 254 && E_MAIL.test(text) ? text.toLowerCase() : undefined),
};

/** An address or a host name. */
export const host: SettingType<string> = {
  expects: 'an IP address or a host name',
  parse: (text) => (isIP(text) !== 0 || (HOST_NAME.test(text) && !/^[\d.]+$/.test(text)) ? text : undefined),
};

/** Addresses (`192.0.2.1`) and CIDRs (`10.0.0.0/8`, `2001:db8::/32`). */
export const addressOrRange: SettingType<string> = {
  expects: 'an IP address or a CIDR',
  parse: (text) => {
    const [address = '', prefix, ...rest] = text.split('/');
    const version = isIP(address);
    if (version === 0 || rest.length > 0 || address.includes('%')) return undefined;
    if (prefix === undefined) return text;
    return /^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128) ? text : undefined;
  },
};

/** A list separated by commas; empty entries and repetitions are dropped. At least one entry. */
export function listOf<Value extends string>(type: SettingType<Value>): SettingType<readonly Value[]> {
  return {
    ...type,
    expects: `a list separated by commas, each ${type.expects}`,
    parse: (text, cwd) => {
      const parts = text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');
      if (parts.length === 0 || parts.length > MOST_ENTRIES) return undefined;
      const values = parts.map((part) => type.parse(part, cwd));
      return values.includes(undefined) ? undefined : [...new Set(values as Value[])];
    },
  };
}

/** An http(s) URL of a server: no path, query, fragment or user. The value is its origin. */
export const httpOrigin: SettingType<string> = {
  expects: 'a URL like https://tocsin.example.org (http or https, without path, query or user)',
  hidden: true,
  parse: (text) => {
    const parsed = parseUrl(text, ['http:', 'https:']);
    return parsed?.pathname === '/' && !/[?#@]/.test(text) ? parsed.origin : undefined;
  },
};

/** An absolute URL with one of these schemes. It may hold a password, so it is never repeated. */
export function url(...schemes: readonly string[]): SettingType<string> {
  return {
    expects: `a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`,
    hidden: true,
    parse: (text) =>
      /^[a-z]+:\/\//i.test(text) &&
      parseUrl(
        text,
        schemes.map((scheme) => `${scheme}:`),
      ) !== undefined
        ? text
        : undefined,
  };
}

/** A Redis URL: `redis(s)://[user][:password]@host[:port][/database]`. It may hold a password, so it is never repeated. */
export const redisUrl: SettingType<string> = {
  expects: 'a URL that begins with redis:// or rediss://, without query',
  hidden: true,
  parse: (text) => (parseRedisUrl(text) === undefined ? undefined : text),
};

/** A node of a Redis Cluster, or a Sentinel. It may hold a password, so it is never repeated. */
export const redisNode: SettingType<string> = {
  expects: 'host:port or redis(s)://user:password@host:port',
  hidden: true,
  parse: (text) => (parseRedisNode(text) === undefined ? undefined : text),
};

/** A mail server: `smtp(s)://[user:password@]host[:port]`. It may hold a password, so it is never repeated. */
export const smtpUrl: SettingType<string> = {
  expects: 'a URL like smtp(s)://user:password@host:port (smtp may end in ?tls=off)',
  hidden: true,
  parse: (text) => (text.length > 2000 || readMailPlace(text) === undefined ? undefined : text),
};

/** A secret of Standard Webhooks. */
export const webhookSecret: SettingType<string> = {
  expects: 'whsec_ and the base64 of 24 to 64 bytes',
  hidden: true,
  parse: (text) => (readWebhookSecret(text) === undefined ? undefined : text),
};

/** A PostgreSQL connection URL (libpq section 34.1.1.2); without a host it names a socket by `?host=`. */
export const postgresUrl: SettingType<string> = {
  ...url('postgres', 'postgresql'),
  parse: (text, cwd) => {
    // A user before an empty host is fine there, but not for the URL standard.
    const whole = text.replace('@/', '@localhost/');
    return url('postgres', 'postgresql').parse(whole, cwd) === undefined ? undefined : text;
  },
};

/** An MQTT topic filter (MQTT 3.1.1 section 4.7); `+` and `#` take whole levels, `#` the last. */
export const topicFilter: SettingType<string> = {
  expects: 'an MQTT topic filter',
  parse: (text) => {
    const levels = text.split('/');
    const fine = levels.every(
      (level, index) => !/[+#]/.test(level) || level === '+' || (level === '#' && index === levels.length - 1),
    );
    return fine && Buffer.byteLength(text) <= 1024 && !/\p{Cc}/u.test(text) ? text : undefined;
  },
};

/** A folder; it need not be there. The value is absolute. */
export const folder: SettingType<string> = {
  expects: 'the path of a folder',
  parse: (text, cwd) => {
    if (text.includes('\0')) return undefined;
    const path = resolve(cwd, text);
    try {
      return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false ? undefined : path;
    } catch {
      return undefined;
    }
  },
};

/** A PEM file that can be read. The value is its absolute path. */
export const pemFile: SettingType<string> = {
  expects: 'the path of a PEM file that can be read',
  parse: (text, cwd) => {
    if (text.includes('\0')) return undefined;
    const path = resolve(cwd, text);
    try {
      accessSync(path, constants.R_OK);
      return /-----BEGIN [A-Z ]+-----/.test(readFileSync(path, 'latin1')) ? path : undefined;
    } catch {
      return undefined;
    }
  },
};

function within(value: number, least: number, most: number): number | undefined {
  return value >= least && value <= most ? value : undefined;
}

function parseUrl(text: string, protocols: readonly string[]): URL | undefined {
  if (/[\s\p{Cc}]/u.test(text) || text.length > 2000) return undefined;
  try {
    const parsed = new URL(text);
    return protocols.includes(parsed.protocol) ? parsed : undefined;
  } catch {
    return undefined;
  }
}
