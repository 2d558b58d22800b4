/**
 * Reads what the server says on `/ws/alerts`. Pure; never throws.
 *
 * A type that is not known is no violation: a newer server of the same major version may have more. Its offset counts.
 */
import type { WelcomeMessage } from '@tocsin/protocol/messages';
import { isAlert, isObject, type ViewerAlert } from './alert-shape.ts';

/** The longest message that is looked at, in UTF-16 units. The server's own bound on alerts lies far below. */
export const MESSAGE_CHARACTERS = 1_048_576;
const LONGEST_PERIOD_S = 3600;
/** Of a connection's name and an epoch. */
const NAME_CHARACTERS = 64;

/** A message that may be acted on. */
export type Incoming =
  | WelcomeMessage
  | { readonly type: 'alert' | 'alert-update'; readonly offset: number; readonly data: ViewerAlert }
  | { readonly type: 'watermark'; readonly offset: number; readonly at: number }
  | { readonly type: 'authenticated'; readonly reauthenticateBy: number }
  | { readonly type: 'moving'; readonly retryAfterMs: number }
  | { readonly type: 'error'; readonly code: string; readonly detail: string }
  | { readonly type: 'pong' }
  | { readonly type: 'unknown'; readonly offset: number | null };

/** A message that is not delivered. */
export interface Malformed {
  readonly type: 'malformed';
  /** Where it can be told. */
  readonly offset: number | null;
}

const isOffset = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === 'string';
const isName = (value: unknown): boolean => isText(value) && value.length <= NAME_CHARACTERS;
const isTime = (value: unknown): value is number => Number.isFinite(value);
const isSeconds = (value: unknown): boolean =>
  Number.isFinite(value) && (value as number) > 0 && (value as number) <= LONGEST_PERIOD_S;

type Members = Readonly<Record<string, unknown>>;

/** By type: whether the other members are what they should be. */
const SHAPES: Readonly<Record<Exclude<Incoming['type'], 'unknown'>, (message: Members) => boolean>> = {
  welcome: (m) =>
    isName(m['connection']) &&
    m['channel'] === 'alerts' &&
    isName(m['epoch']) &&
    isOffset(m['offset']) &&
    typeof m['recovered'] === 'boolean' &&
    isSeconds(m['heartbeatSeconds']) &&
    isSeconds(m['watermarkSeconds']) &&
    isTime(m['reauthenticateBy']),
  alert: isAlertMessage,
  'alert-update': isAlertMessage,
  watermark: (m) => isOffset(m['offset']) && isTime(m['at']),
  authenticated: (m) => isTime(m['reauthenticateBy']),
  moving: (m) => isOffset(m['retryAfterMs']),
  error: (m) => isName(m['code']) && isText(m['detail']),
  pong: () => true,
};

/** The offset outside is not signed, the one inside is: they have to be the same, or an old alert could be shown as new. */
function isAlertMessage({ offset, data }: Members): boolean {
  return isAlert(data) && data.offset === offset;
}

/** Reads one message; null: it was binary. */
export function readServerMessage(text: string | null): Incoming | Malformed {
  let value: unknown;
  try {
    value = text === null || text.length > MESSAGE_CHARACTERS ? null : JSON.parse(text);
  } catch {
    value = null;
  }
  if (!isObject(value) || !isText(value['type'])) return { type: 'malformed', offset: null };
  const offset = isOffset(value['offset']) ? value['offset'] : null;
  if (!Object.hasOwn(SHAPES, value['type'])) return { type: 'unknown', offset };
  const fits = SHAPES[value['type'] as keyof typeof SHAPES](value);
  return fits ? (value as unknown as Incoming) : { type: 'malformed', offset };
}
