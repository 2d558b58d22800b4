/**
 * A server that takes posts, for tests of notifications: it stands in for Slack or for a webhook. It writes down every post that
 * arrived whole, and answers as it was told: 200 `ok` unless something else is its turn.
 */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One post. */
export interface ReceivedPost {
  /** When it was whole, Unix ms. */
  readonly at: number;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The status that it was answered with; null: it was not answered. */
  readonly status: number | null;
}

/** How a post is answered: a status (with headers), never (`hang`), or by a cut connection (`close`). */
export type ScriptedAnswer =
  | 'hang'
  | 'close'
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string };

/** A running one. */
export interface PostReceiver {
  /** `http://127.0.0.1:<port>/hook`. */
  readonly url: string;
  readonly posts: readonly ReceivedPost[];
  /** Those that were answered 200. */
  taken(): readonly ReceivedPost[];
  /** What the next posts are answered, one each. */
  script(...answers: readonly ScriptedAnswer[]): void;
  /** What every post is answered from now on when nothing is scripted. */
  always(answer: ScriptedAnswer): void;
  /** Resolves once `holds` does, asked after each post; rejects after a minute. */
  until(holds: () => boolean): Promise<void>;
  stop(): Promise<void>;
}

const OK: ScriptedAnswer = { status: 200, body: 'ok' };
const PATIENCE_MS = 60_000;
const MOST_BYTES = 1_048_576;

/** Starts one on a free port of this machine. */
export async function startPostReceiver(): Promise<PostReceiver> {
  const posts: ReceivedPost[] = [];
  const scripted: ScriptedAnswer[] = [];
  const watchers = new Set<() => void>();
  let usual = OK;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) request.destroy();
      else chunks.push(chunk);
    });
    request.on('error', () => undefined);
    request.on('end', () => {
      const answer = scripted.shift() ?? usual;
      const status = typeof answer === 'string' ? null : answer.status;
      const body = Buffer.concat(chunks).toString('utf8');
      posts.push({ at: Date.now(), path: request.url ?? '', headers: request.headers, body, status });
      give(response, answer);
      for (const watcher of watchers) watcher();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    posts,
    taken: () => posts.filter(({ status }) => status === 200),
    script: (...answers) => void scripted.push(...answers),
    always: (answer) => void (usual = answer),
    until: (holds) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          watchers.delete(look);
          reject(new Error(`the posts did not come; ${posts.length} did`));
        }, PATIENCE_MS);
        const look = (): void => {
          if (!holds()) return;
          clearTimeout(timer);
          watchers.delete(look);
          resolve();
        };
        watchers.add(look);
        look();
      }),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function give(response: ServerResponse, answer: ScriptedAnswer): void {
  if (answer === 'hang') return;
  if (answer === 'close') {
    response.socket?.destroy();
    return;
  }
  response.writeHead(answer.status, answer.headers ?? {});
  response.end(answer.body ?? '');
}
