/** `/v1/api-keys`: what programs and gateways show; for admins. The key itself is in the answer to its creation only. */
import { LIMITS } from '@tocsin/protocol/limits';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { Scope } from './access.ts';
import { PAGE_QUERY, pageOf, readLimit, toPage, type PageQuery } from './paging.ts';
import { idBefore } from './users.ts';
import { plainText } from './validation.ts';
import { IdParamsSchema } from './zones.ts';

/** An API key as it is shown. */
export interface ShownApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly revokedAt: number | null;
}

/** What the routes need; everything throws a RefusalError. */
export interface ApiKeyServices {
  create(name: string, scopes: readonly Scope[]): Promise<ShownApiKey & { readonly key: string }>;
  /** Keys with an id below `before` (null: from the newest), newest first. */
  list(before: string | null, limit: number): Promise<ShownApiKey[]>;
  revoke(id: string): Promise<void>;
}

interface CreationBody {
  readonly name: string;
  readonly scopes?: readonly Scope[];
}

const ADMIN = { access: { kind: 'bearer', role: 'admin' } } as const;
const tags = ['keys'];
const DEFAULT_SCOPES: readonly Scope[] = ['ingest'];
const scope: TSchema = Type.Union((['ingest', 'register', 'read'] as const).map((name) => Type.Literal(name)));

const CreationSchema: TSchema = Type.Object(
  {
    name: plainText(LIMITS.nameCharacters.value),
    scopes: Type.Optional(Type.Array(scope, { minItems: 1, maxItems: 3, uniqueItems: true })),
  },
  { additionalProperties: false },
);
const shown = {
  id: Type.String(),
  name: Type.String(),
  scopes: Type.Array(scope),
  createdAt: Type.Integer(),
  revokedAt: Type.Union([Type.Integer(), Type.Null()]),
};
const KeySchema: TSchema = Type.Object(shown);
const NewKeySchema: TSchema = Type.Object({ ...shown, key: Type.String({ description: 'shown this once' }) });
const QuerySchema: TSchema = Type.Object({ ...PAGE_QUERY }, { additionalProperties: false });

/** Builds the routes. */
export function apiKeysRoutes(services: ApiKeyServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    const create = { summary: 'Makes an API key', tags, body: CreationSchema, response: { 201: NewKeySchema } };
    app.post<{ Body: CreationBody }>('/v1/api-keys', { config: ADMIN, schema: create }, async (request, reply) => {
      const { name, scopes = DEFAULT_SCOPES } = request.body;
      return reply.code(201).send(await services.create(name, scopes));
    });

    const list = {
      summary: 'API keys, newest first',
      tags,
      querystring: QuerySchema,
      response: { 200: pageOf(KeySchema) },
    };
    app.get<{ Querystring: PageQuery }>('/v1/api-keys', { config: ADMIN, schema: list }, async ({ query }) => {
      const limit = readLimit(query);
      const rows = await services.list(idBefore(query), limit + 1);
      return toPage(
        rows,
        limit,
        (key) => [key.id],
        (key) => key,
      );
    });

    const revoke = { summary: 'Revokes an API key', tags, params: IdParamsSchema, response: { 204: Type.Null() } };
    app.delete<{ Params: { readonly id: string } }>(
      '/v1/api-keys/:id',
      { config: ADMIN, schema: revoke },
      async (request, reply) => {
        await services.revoke(request.params.id);
        return reply.code(204).send();
      },
    );
  };
}
