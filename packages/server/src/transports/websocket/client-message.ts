/** Reads what a client sends on an open connection. Pure; strict: unknown types and unknown keys are refused. */
import type { ErrorCode } from '@tocsin/protocol/errors';
import type { ClientMessage } from '@tocsin/protocol/messages';
import { isIdentifier } from '@tocsin/protocol/identifiers';

/** What is wrong with a message; the detail never repeats it. */
export interface MessageProblem {
  readonly type: 'problem';
  readonly code: ErrorCode;
  readonly detail: string;
}

const problem = (code: ErrorCode, detail: string): MessageProblem => ({ type: 'problem', code, detail });

function keysAre(value: object, ...keys: readonly string[]): boolean {
  const own = Object.keys(value);
  return own.length === keys.length && keys.every((key) => own.includes(key));
}

const WRONG_SHAPE = problem('schema', 'The message is none of the known ones, or has a wrong or unknown member');

/** Messages that the message limit does not count. */
export function isUncounted(message: ClientMessage | MessageProblem): boolean {
  return message.type === 'authenticate' || message.type === 'received' || message.type === 'command-acknowledged';
}

/** Reads one text message. */
export function readClientMessage(text: string): ClientMessage | MessageProblem {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return problem('malformed-json', 'The message is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return WRONG_SHAPE;
  const { type, token, offset, id } = value as Readonly<Record<string, unknown>>;
  if (type === 'ping' && keysAre(value, 'type')) return { type };
  if (type === 'authenticate' && typeof token === 'string' && keysAre(value, 'type', 'token')) return { type, token };
  if (type === 'received' && Number.isSafeInteger(offset) && Number(offset) >= 0 && keysAre(value, 'type', 'offset')) {
    return { type, offset: Number(offset) };
  }
  if (type === 'command-acknowledged' && isIdentifier(id) && keysAre(value, 'type', 'id')) return { type, id };
  return WRONG_SHAPE;
}
