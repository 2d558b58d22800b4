/** `GET /.well-known/jwks.json` and `/internal/.well-known/jwks.json`: the public keys (RFC 7517), for anybody. */
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';

/** What the routes need. */
export interface JwksServices {
  jwks(): { readonly keys: readonly object[] };
}

/** Short, so that a rotation is seen: verifiers ask again for a kid they do not know anyway. */
const CACHE = 'public, max-age=60, stale-if-error=3600';
const PUBLIC = { access: { kind: 'public' } } as const;
const JwksSchema: TSchema = Type.Object({ keys: Type.Array(Type.Object({}, { additionalProperties: true })) });

/** Builds the routes. */
export function jwksRoutes(services: JwksServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    for (const url of ['/.well-known/jwks.json', '/internal/.well-known/jwks.json']) {
      const schema = {
        summary: 'Public keys of tokens, alerts and commands',
        tags: ['keys'],
        response: { 200: JwksSchema },
      };
      app.get(url, { config: PUBLIC, schema }, async (_request, reply) =>
        reply.header('cache-control', CACHE).type('application/json').send(services.jwks()),
      );
    }
  };
}
