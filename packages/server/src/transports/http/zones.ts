/** `/v1/zones`: named areas. Viewers read, operators write. */
import { IDENTIFIER_PATTERN } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { ZoneQuery, ZoneRow } from '../../store/ports/registry.ts';
import { PAGE_QUERY, pageOf, readCursor, readLimit, toPage, type Page, type PageQuery } from './paging.ts';
import { plainText } from './validation.ts';

/** What the routes need of the registry; every function may throw a RefusalError. */
export interface ZoneBook {
  create(zone: { readonly id: string; readonly name: string }): Promise<ZoneRow>;
  get(id: string): Promise<ZoneRow>;
  list(query: ZoneQuery): Promise<ZoneRow[]>;
  rename(id: string, name: string): Promise<ZoneRow>;
  remove(id: string): Promise<void>;
}

/** A zone as clients see it. */
export interface ZoneView {
  readonly id: string;
  readonly name: string;
  readonly createdAt: number;
}

/** The schema of an identifier. */
export const IdentifierSchema: TSchema = Type.String({ pattern: IDENTIFIER_PATTERN, maxLength: 64 });
/** The schema of a path with one `id`. */
export const IdParamsSchema: TSchema = Type.Object({ id: IdentifierSchema }, { additionalProperties: false });

const CLOSED = { additionalProperties: false } as const;
const NameSchema = plainText(LIMITS.nameCharacters.value);
const ZoneSchema = Type.Object({ id: IdentifierSchema, name: Type.String(), createdAt: Type.Integer() });
const CreateSchema = Type.Object({ id: IdentifierSchema, name: NameSchema }, CLOSED);
const PatchSchema = Type.Object({ name: Type.Optional(NameSchema) }, CLOSED);
const QuerySchema = Type.Object(PAGE_QUERY, CLOSED);

const READ = { access: { kind: 'bearer', role: 'viewer' } } as const;
const WRITE = { access: { kind: 'bearer', role: 'operator' } } as const;
const DOCUMENTED = { tags: ['zones'], security: [{ bearer: [] }] };

/** The number behind which the next page of a list by `number` begins; null for the first page. */
export function readNumberCursor(query: PageQuery): number | null {
  const key = readCursor(query, ['number'])?.[0];
  if (key === undefined) return null;
  if (typeof key !== 'number' || key < 1 || key > 0x7fffffff)
    throw refuse('malformed-parameter', 'cursor is not one of this list');
  return key;
}

function view(row: ZoneRow): ZoneView {
  return { id: row.id, name: row.name, createdAt: row.createdAt };
}

function readRoutes(app: FastifyInstance, zones: ZoneBook): void {
  const list = {
    ...DOCUMENTED,
    summary: 'Zones, newest first',
    querystring: QuerySchema,
    response: { 200: pageOf(ZoneSchema) },
  };
  app.get<{ Querystring: PageQuery }>(
    '/v1/zones',
    { config: READ, schema: list },
    async ({ query }): Promise<Page<ZoneView>> => {
      const limit = readLimit(query);
      const rows = await zones.list({ before: readNumberCursor(query), limit: limit + 1 });
      return toPage(rows, limit, (row) => [row.number], view);
    },
  );

  const one = { ...DOCUMENTED, summary: 'One zone', params: IdParamsSchema, response: { 200: ZoneSchema } };
  app.get<{ Params: { id: string } }>('/v1/zones/:id', { config: READ, schema: one }, async ({ params }) =>
    view(await zones.get(params.id)),
  );
}

/** Registers the routes. */
export function zoneRoutes(app: FastifyInstance, zones: ZoneBook): void {
  readRoutes(app, zones);

  const create = { ...DOCUMENTED, summary: 'Make a zone', body: CreateSchema, response: { 201: ZoneSchema } };
  app.post<{ Body: { id: string; name: string } }>(
    '/v1/zones',
    { config: WRITE, schema: create },
    async ({ body }, reply) => {
      const row = await zones.create(body);
      return reply.code(201).header('location', `/v1/zones/${row.id}`).send(view(row));
    },
  );

  const patch = {
    ...DOCUMENTED,
    summary: 'Rename a zone',
    params: IdParamsSchema,
    body: PatchSchema,
    response: { 200: ZoneSchema },
  };
  app.patch<{ Params: { id: string }; Body: { name?: string } }>(
    '/v1/zones/:id',
    { config: WRITE, schema: patch },
    async ({ params, body }) =>
      view(body.name === undefined ? await zones.get(params.id) : await zones.rename(params.id, body.name)),
  );

  const remove = {
    ...DOCUMENTED,
    summary: 'Delete a zone that has no devices',
    params: IdParamsSchema,
    response: { 204: Type.Null() },
  };
  app.delete<{ Params: { id: string } }>(
    '/v1/zones/:id',
    { config: WRITE, schema: remove },
    async ({ params }, reply) => {
      await zones.remove(params.id);
      return reply.code(204).send();
    },
  );
}
