/** Where and as whom to watch. */
import type { Severity } from '@tocsin/protocol/alert';
import type { Credentials } from './credentials.ts';
import type { Trust } from './keys.ts';
import type { ResumeStore } from './resume-point.ts';

/** What `connectAlerts` takes. */
export interface ConnectOptions {
  /** The server's base, `https://…` (`http://…` for tests). */
  readonly url: string;
  readonly credentials: Credentials;
  /** Only alerts of this zone. */
  readonly zone?: string;
  /** Only alerts that are at least this severe. */
  readonly minSeverity?: Severity;
  /** Whose signatures count; the server's own keys when absent. */
  readonly trust?: Trust;
  /** Keeps the place over reloads. */
  readonly resume?: ResumeStore;
}

/** The base of all paths, with a slash at its end. Throws a TypeError when `url` is no URL. */
export function baseOf({ url }: ConnectOptions): string {
  return new URL(url.replace(/\/?$/, '/')).href;
}

/** The address of the channel. */
export function channelUrl(base: string, { zone, minSeverity }: ConnectOptions): string {
  const url = new URL('ws/alerts', base);
  url.protocol = url.protocol.replace('http', 'ws');
  if (zone !== undefined) url.searchParams.set('zone', zone);
  if (minSeverity !== undefined) url.searchParams.set('minSeverity', minSeverity);
  return url.href;
}
