import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createResponseReader, HttpFormatError, type HttpResponse } from './http-response.ts';

const RESPONSES: readonly (readonly [text: string, status: number, body: string, close: boolean])[] = [
  ['HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nDate: x\r\n\r\nhello', 202, 'hello', false],
  ['HTTP/1.1 204 No Content\r\n\r\n', 204, '', false],
  ['HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n', 200, '', true],
  [
    'HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3;x=y\r\nef\n\r\n0\r\nTrailer: t\r\n\r\n',
    400,
    'abcdef\n',
    false,
  ],
  ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Big\r\ncontent-length: 2\r\n\r\n{}', 413, '{}', false],
  ['HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx', 200, 'x', true],
];

function cut(text: string, at: readonly number[]): string[] {
  const places = [...new Set(at.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, i) => text.slice(from, places[i] ?? text.length));
}

describe('response reader', () => {
  it('reads a response alike, however its bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...RESPONSES), { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(500), { maxLength: 12 }),
        (responses, cuts) => {
          const reader = createResponseReader();
          for (const [text, status, body, close] of responses) {
            const found: HttpResponse[] = [];
            for (const piece of cut(text, cuts)) {
              const response = reader.push(piece);
              if (response !== null) found.push(response);
            }
            expect(found).toHaveLength(1);
            expect(found[0]).toMatchObject({ status, body, close });
            expect(reader.begun).toBe(false);
          }
        },
      ),
    );
  });

  it('takes a body without a length to the end of the connection', () => {
    const reader = createResponseReader();
    expect(reader.push('HTTP/1.1 200 OK\r\n\r\nall of')).toBeNull();
    expect(reader.push(' it')).toBeNull();
    expect(reader.end()).toMatchObject({ status: 200, body: 'all of it', close: true });
    expect(createResponseReader().end()).toBeNull();
  });

  it.each([
    ['no HTTP at all', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['more than was asked for', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy'],
    ['an unreadable chunk', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n'],
    ['a chunk that is longer than it says', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabcd\r\n'],
    ['another coding', 'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n'],
    ['another protocol', 'HTTP/1.1 101 Switching\r\n\r\n'],
    ['a body beyond the bound', 'HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n'],
    ['a head beyond the bound', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(20_000)}`],
  ])('refuses %s', (_what, text) => {
    expect(() => createResponseReader().push(text)).toThrow(HttpFormatError);
  });

  it('refuses a connection that ends within an answer', () => {
    const reader = createResponseReader();
    reader.push('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf');
    expect(() => reader.end()).toThrow(HttpFormatError);
  });
});
