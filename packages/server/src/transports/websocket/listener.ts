/**
 * A listener for WebSocket alone (`WS_PORT`): plain requests get 426 at its paths and 404 elsewhere, as problem documents.
 * Below that it is the same as the main listener (`http/server-socket.ts`).
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { type Refusal, toProblem } from '@tocsin/protocol/errors';
import { PROBLEM_TYPE } from '../http/problem.ts';
import { answerClientError, createListener, type ListenerHabits, type TlsOptions } from '../http/server-socket.ts';
import { readTarget } from './request.ts';

/** What a plain request to a target is told. Pure. */
export function refusePlain(target: string | undefined, paths: ReadonlySet<string>): Refusal {
  const path = readTarget(target)?.pathname;
  if (path !== undefined && paths.has(path)) {
    return { code: 'upgrade-required', detail: 'This path speaks WebSocket version 13 only' };
  }
  return { code: 'not-found', detail: 'This listener speaks WebSocket only' };
}

/** Makes it, http or (with `tls`) https; not listening yet. */
export function createWebSocketListener(
  paths: ReadonlySet<string>,
  tls: TlsOptions | undefined,
  habits: ListenerHabits,
): Server {
  const handler = (request: IncomingMessage, response: ServerResponse): void => {
    const refusal = refusePlain(request.url, paths);
    const problem = toProblem(refusal);
    const body = JSON.stringify(problem);
    response.writeHead(problem.status, {
      'content-type': PROBLEM_TYPE,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      ...(problem.status === 426 ? { upgrade: 'websocket', connection: 'Upgrade' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
    // A body that is not read would keep the connection from its next request.
    request.resume();
  };
  const server = createListener(handler, tls, habits);
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => answerClientError(error, socket, habits));
  return server;
}
