/**
 * Answers a handshake with an HTTP error: a problem document (RFC 9457), then the end of the connection.
 * Guarantee: the socket is gone a second later, whatever the peer does.
 */
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type Refusal, toProblem } from '@tocsin/protocol/errors';
import { PROBLEM_TYPE, rateLimitFields, retryAfterSeconds } from '../http/problem.ts';
import { STRICT_TRANSPORT } from '../http/server-socket.ts';

/** How long the peer has to read the answer, in ms. */
const READ_MS = 1000;

/** The whole answer as text, with HSTS where the outside comes by https. Pure. */
export function refusalText(refusal: Refusal, https: boolean): string {
  const problem = toProblem(refusal);
  const body = JSON.stringify(problem);
  const retry = retryAfterSeconds(refusal);
  const lines = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? 'Error'}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'Connection: close',
  ];
  if (https) lines.push(`Strict-Transport-Security: ${STRICT_TRANSPORT}`);
  if (retry !== null) lines.push(`Retry-After: ${retry}`);
  if (problem.status === 429 && retry !== null) {
    for (const [name, value] of rateLimitFields(refusal, retry)) lines.push(`${name}: ${value}`);
  }
  if (problem.status === 401) lines.push('WWW-Authenticate: Bearer realm="tocsin"');
  if (problem.status === 405) lines.push('Allow: GET');
  if (problem.status === 426) lines.push('Upgrade: websocket', 'Sec-WebSocket-Version: 13');
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

/** Sends the answer and ends the socket. `https`: the outside comes by https. */
export function refuseUpgrade(socket: Duplex, refusal: Refusal, https: boolean): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(refusalText(refusal, https));
  // Unread bytes at the end would turn the answer into a reset on the peer's side.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), READ_MS);
  socket.once('end', () => socket.destroy());
  socket.once('close', () => clearTimeout(timer));
}
