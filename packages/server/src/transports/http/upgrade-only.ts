/** What a plain request to a path for WebSocket gets: 426 with the protocol it speaks (RFC 9110 section 15.5.22). */
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';

const PUBLIC = { access: { kind: 'public' } } as const;

/** Registers the paths. */
export function upgradeOnlyRoutes(app: FastifyInstance, paths: readonly string[]): void {
  for (const path of paths) {
    const schema = { summary: 'WebSocket only', tags: ['realtime'], hide: true };
    app.get(path, { config: PUBLIC, schema }, (_request, reply) => {
      reply.header('upgrade', 'websocket').header('connection', 'Upgrade');
      throw refuse('upgrade-required');
    });
  }
}
