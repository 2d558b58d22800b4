/**
 * `GET /openapi.json` (OpenAPI 3.1, made from the routes' own schemas) and `GET /docs` (Swagger UI under its static CSP).
 * Register before the routes: it sees what is registered after it.
 */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyContextConfig, FastifyInstance, FastifySchema } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { Access } from './access.ts';

/** What the documentation says about the server. */
export interface DocsOptions {
  readonly version: string;
  readonly publicUrl: string;
}

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
  apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
} as const;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the documentation says of a body that the route reads by itself, without a schema. */
    documentedBody?: { readonly type: string; readonly schema: TSchema };
  }
}

const PROBLEM: TSchema = Type.Object({
  type: Type.String({ description: 'urn:tocsin:error:<code>' }),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.String(),
  detail: Type.String(),
  errors: Type.Optional(Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }))),
});

function securityOf(access: Access | undefined, own: FastifySchema['security']): FastifySchema['security'] {
  switch (access?.kind) {
    case 'api-key':
      return [{ apiKey: [] }];
    case 'api-key-or-bearer':
      return [{ apiKey: [] }, { bearer: [] }];
    case 'bearer':
      return [{ bearer: [] }];
    default:
      return own ?? [];
  }
}

/** What every route has in common is said here once: its credentials by its access rule, its refusals, its raw body. */
function describeRoute(schema: FastifySchema, config: FastifyContextConfig | undefined): FastifySchema {
  const { documentedBody } = config ?? {};
  const raw = documentedBody === undefined ? {} : { consumes: [documentedBody.type], body: documentedBody.schema };
  const refused = { description: 'A refusal (RFC 9457)', content: { 'application/problem+json': { schema: PROBLEM } } };
  const response = { ...(schema.response as object | undefined), default: refused };
  return { ...schema, ...raw, security: securityOf(config?.access, schema.security) ?? [], response };
}

/** Registers the documentation. */
export async function registerDocs(app: FastifyInstance, options: DocsOptions): Promise<void> {
  await app.register(swagger, {
    transform: ({ schema, url, route }) => ({ schema: describeRoute(schema ?? {}, route.config), url }),
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
  // Whoever opens the server's address in a browser finds something to read.
  app.get('/', { config: { access: { kind: 'public' }, headers: 'page' }, schema }, (_request, reply) =>
    reply.redirect('/docs'),
  );
}
