/** Why a connection ended, in one word: the field of the log's line and the label of the metric. Pure. */
import { CLOSE_CODES, type CloseName } from '@tocsin/protocol/close-codes';

/** Who began to close: the server, or the client (or the network). */
export type EndedBy = 'server' | 'client';

/**
 * By the server: a row of the close codes; `broken` for a frame that RFC 6455 does not allow; `silent` for a peer that answered
 * neither a ping nor a close. By the client: `left` with a close frame, `lost` without one.
 */
export type EndReason = CloseName | 'broken' | 'silent' | 'left' | 'lost';

/** What RFC 6455 section 7.4.1 calls a connection that ended without a close frame. */
export const GONE = 1006;

const NAMES: ReadonlyMap<number, CloseName> = new Map(
  Object.entries(CLOSE_CODES).map(([name, { code }]) => [code, name as CloseName]),
);

/** The reason of an end with `code`. */
export function endReason(code: number, by: EndedBy): EndReason {
  if (by === 'client') return code === GONE ? 'lost' : 'left';
  return NAMES.get(code) ?? (code === GONE ? 'silent' : 'broken');
}

/** The close code that `ws` has sent for a broken frame, by the code of its error; the rest is 1002 (RFC 6455 section 7.4.1). */
export function codeOfBroken(error: unknown): number {
  switch ((error as { code?: unknown } | null)?.code) {
    case 'WS_ERR_INVALID_UTF8':
      return 1007;
    case 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH':
    case 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH':
      return CLOSE_CODES.tooBig.code;
    case 'WS_ERR_TOO_MANY_BUFFERED_PARTS':
      return CLOSE_CODES.policy.code;
    default:
      return 1002;
  }
}
