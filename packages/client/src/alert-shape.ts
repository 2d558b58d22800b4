/**
 * The shape of an alert, checked by hand: the schema library of the server would be larger than the whole SDK. Pure.
 *
 * It takes what `AlertSchema` of `@tocsin/protocol` takes (a test compares them), and two things more, so that a viewer
 * does not go deaf when the server is newer: kinds that it does not know, and members that it does not know. Both are
 * under the signature like the rest.
 */
import type { Alert, AlertKind } from '@tocsin/protocol/alert';

/** An alert as an application gets it. Times are Unix ms. Its texts came from outside: show them as text, never as markup. */
export type ViewerAlert = Omit<Alert, 'kind'> & {
  /** One of the known kinds, or that of a newer server. */
  readonly kind: AlertKind | (string & Record<never, never>);
};

const SEVERITIES = ['extreme', 'severe', 'moderate', 'minor', 'unknown'];
const IDENTIFIER = /^[A-Za-z0-9._-]{1,64}$/;

type Check = (value: unknown) => boolean;

const matches =
  (pattern: RegExp): Check =>
  (value) =>
    typeof value === 'string' && pattern.test(value);
const oneOf =
  (...known: readonly string[]): Check =>
  (value) =>
    known.includes(value as string);
const isTime: Check = (value) => Number.isInteger(value);
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 1;
/** Of at most so many characters, as JSON Schema counts them: code points. */
const text = (most: number): Check => matches(new RegExp(`^[^]{0,${most}}$`, 'u'));
const within =
  (most: number): Check =>
  (value) =>
    value === null || (Number.isFinite(value) && Math.abs(value as number) <= most);
const isPlace: Check = (value) => value === null || matches(IDENTIFIER)(value);

const MEMBERS: Readonly<Record<keyof Alert, Check>> = {
  id: matches(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/),
  kind: matches(/^[a-z]+(\.[a-z0-9-]+){1,7}$/),
  severity: oneOf(...SEVERITIES),
  status: oneOf('actual', 'exercise'),
  state: oneOf('open', 'acknowledged', 'resolved'),
  revision: isCount,
  offset: isCount,
  headline: text(200),
  description: text(4000),
  zoneId: isPlace,
  deviceId: isPlace,
  latitude: within(90),
  longitude: within(180),
  onset: isTime,
  sentAt: isTime,
  updatedAt: isTime,
  fingerprint: matches(/^[0-9a-f]{64}$/),
  evidence: isObject,
  signature: matches(/^[\w-]+\.\.[\w-]+$/),
};

/** True for an object that is no array. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** True when the value has the shape of an alert. Says nothing about its signature. */
export function isAlert(value: unknown): value is ViewerAlert {
  return isObject(value) && Object.entries(MEMBERS).every(([name, check]) => check(value[name]));
}

/** True when `alert` is at least as severe as `least` (null: every one is). */
export function isSevereEnough(alert: ViewerAlert, least: string | null): boolean {
  return least === null || SEVERITIES.indexOf(alert.severity) <= SEVERITIES.indexOf(least);
}
