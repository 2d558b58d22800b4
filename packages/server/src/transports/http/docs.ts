/**
 * `GET /openapi.json` (OpenAPI 3.1, made from the routes' own schemas) and `GET /docs` (Swagger UI under its static CSP).
 * Register before the routes: it sees what is registered after it.
 */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';

/** What the documentation says about the server. */
export interface DocsOptions {
  readonly version: string;
  readonly publicUrl: string;
}

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
  apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
} as const;

/** Registers the documentation. */
export async function registerDocs(app: FastifyInstance, options: DocsOptions): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Tocsin',
        version: options.version,
        description: 'Signed telemetry in, alarms out. Every error is application/problem+json (RFC 9457).',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: options.publicUrl }],
      components: { securitySchemes: SECURITY_SCHEMES },
    },
  });
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { docExpansion: 'list' } });
  const schema = { hide: true };
  app.get('/openapi.json', { config: { access: { kind: 'public' } }, schema }, (_request, reply) =>
    reply.type('application/json').send(app.swagger()),
  );
}
