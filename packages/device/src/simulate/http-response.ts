/**
 * Reads HTTP/1.1 responses (RFC 9112) from bytes that come in any pieces. One response at a time: requests are not
 * pipelined. Texts are latin1, one character for each byte. Pure.
 *
 * Understands `Content-Length`, `chunked`, bodies that end with the connection, and passes over 1xx. Bounded: 16 KiB of
 * head, 4 MiB of body. Failure: {@link HttpFormatError}.
 */

/** A whole response. `body` is latin1. `close`: the peer will close the connection. */
export interface HttpResponse {
  readonly status: number;
  readonly head: string;
  readonly body: string;
  readonly close: boolean;
}

/** What came is no HTTP that we can read. */
export class HttpFormatError extends Error {
  override readonly name = 'HttpFormatError';
}

/** Takes pieces, gives responses. */
export interface ResponseReader {
  /** A response when this piece completes one. */
  push(piece: string): HttpResponse | null;
  /** The connection ended: the response whose body ends with it, or null when nothing was begun. */
  end(): HttpResponse | null;
  /** A byte of a response has come and its end has not. */
  readonly begun: boolean;
}

const MOST_HEAD = 16_384;
const MOST_BODY = 4_194_304;
const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: |$)/;
const LENGTH = /\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*(?:\r\n|$)/i;
const CHUNKED = /\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r\n|$)/i;
const ENCODED = /\r\ntransfer-encoding:/i;
const CLOSE = /\r\nconnection:[^\r\n]*\bclose\b/i;
const CHUNK_LINE = /^([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?$/;

interface Head {
  readonly status: number;
  readonly text: string;
  /** Of the body: its length, or how its end is found. */
  readonly body: number | 'chunked' | 'close';
  readonly close: boolean;
}

function readHead(text: string): Head {
  const [, minor, digits] = STATUS_LINE.exec(text) ?? [];
  if (digits === undefined) throw new HttpFormatError('the answer does not begin like HTTP/1.1');
  const status = Number(digits);
  const close = CLOSE.test(text) || minor === '0';
  if (status < 200 || status === 204 || status === 304) return { status, text, body: 0, close };
  if (CHUNKED.test(text)) return { status, text, body: 'chunked', close };
  if (ENCODED.test(text)) throw new HttpFormatError('the answer has a transfer coding that is not chunked');
  const length = LENGTH.exec(text)?.[1];
  if (length === undefined) return { status, text, body: 'close', close: true };
  if (Number(length) > MOST_BODY) throw new HttpFormatError(`the answer has a body over ${MOST_BODY} bytes`);
  return { status, text, body: Number(length), close };
}

/** Takes whole chunks off the front of `text`; `done` once the last one and the trailer are there. */
function takeChunks(text: string): { readonly body: string; readonly rest: string; readonly done: boolean } {
  let body = '';
  let from = 0;
  for (;;) {
    const end = text.indexOf('\r\n', from);
    if (end < 0) {
      if (text.length - from > MOST_HEAD) throw new HttpFormatError('the line of a chunk is too long');
      return { body, rest: text.slice(from), done: false };
    }
    const digits = CHUNK_LINE.exec(text.slice(from, end))?.[1];
    if (digits === undefined) throw new HttpFormatError('the line of a chunk cannot be read');
    const size = Number.parseInt(digits, 16);
    if (size > MOST_BODY) throw new HttpFormatError(`the answer has a chunk over ${MOST_BODY} bytes`);
    if (size === 0) {
      const rest = afterTrailer(text, end);
      return { body, rest: rest ?? text.slice(from), done: rest !== null };
    }
    const next = end + 2 + size + 2;
    if (text.length < next) return { body, rest: text.slice(from), done: false };
    if (text.slice(next - 2, next) !== '\r\n') throw new HttpFormatError('a chunk is longer than its line says');
    body += text.slice(end + 2, next - 2);
    from = next;
  }
}

/** What follows the trailer section, whose lines begin at `end` + 2; null when it is not here yet. */
function afterTrailer(text: string, end: number): string | null {
  if (text.startsWith('\r\n', end + 2)) return text.slice(end + 4);
  const close = text.indexOf('\r\n\r\n', end + 2);
  if (close < 0 && text.length - end > MOST_HEAD) throw new HttpFormatError('the trailer is too long');
  return close < 0 ? null : text.slice(close + 4);
}

/** A reader at the start of a connection. */
export function createResponseReader(): ResponseReader {
  let text = '';
  let head: Head | null = null;
  let body = '';

  const finish = (found: Head, whole: string, rest: string): HttpResponse => {
    if (rest !== '') throw new HttpFormatError('more came than was asked for');
    [text, head, body] = ['', null, ''];
    return { status: found.status, head: found.text, body: whole, close: found.close };
  };

  const takeHead = (): Head | null => {
    for (;;) {
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) {
        if (text.length > MOST_HEAD) throw new HttpFormatError('the head of the answer is too long');
        return null;
      }
      const found = readHead(text.slice(0, end));
      text = text.slice(end + 4);
      // 1xx are announcements; 101 would be another protocol, which nobody asked for.
      if (found.status >= 200) return found;
      if (found.status === 101) throw new HttpFormatError('the answer switches protocols');
    }
  };

  const takeBody = (found: Head): HttpResponse | null => {
    if (found.body === 'close') {
      if (text.length > MOST_BODY) throw new HttpFormatError(`the answer has a body over ${MOST_BODY} bytes`);
      return null;
    }
    if (found.body === 'chunked') {
      const { body: more, rest, done } = takeChunks(text);
      body += more;
      text = rest;
      if (body.length > MOST_BODY) throw new HttpFormatError(`the answer has a body over ${MOST_BODY} bytes`);
      return done ? finish(found, body, rest) : null;
    }
    return text.length < found.body ? null : finish(found, text.slice(0, found.body), text.slice(found.body));
  };

  return {
    push(piece) {
      text = text === '' ? piece : text + piece;
      head ??= takeHead();
      return head === null ? null : takeBody(head);
    },
    end() {
      if (head === null && text === '') return null;
      if (head?.body !== 'close') throw new HttpFormatError('the connection ended within an answer');
      return finish(head, text, '');
    },
    get begun() {
      return head !== null || text !== '';
    },
  };
}
