/** `/v1/users`: people who may sign in; for admins. A password goes in and never comes out. */
import { LIMITS } from '@tocsin/protocol/limits';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { ROLES, type Role } from './access.ts';
import { PAGE_QUERY, pageOf, readCursor, readLimit, toPage, type PageQuery } from './paging.ts';
import { IdParamsSchema } from './zones.ts';

/** A user as it is shown. */
export interface ShownUser {
  readonly id: string;
  readonly email: string;
  readonly role: Role;
  readonly createdAt: number;
  readonly disabledAt: number | null;
}

/** What the routes need; everything throws a RefusalError. */
export interface UserServices {
  create(creation: { readonly email: string; readonly password: string; readonly role: Role }): Promise<ShownUser>;
  get(id: string): Promise<ShownUser>;
  /** Users with an id below `before` (null: from the newest), newest first. */
  list(before: string | null, limit: number): Promise<ShownUser[]>;
  patch(id: string, patch: UserPatchBody): Promise<ShownUser>;
  remove(id: string): Promise<void>;
}

/** The body of a PATCH. `disabled`: may not sign in. */
export interface UserPatchBody {
  readonly email?: string;
  readonly password?: string;
  readonly role?: Role;
  readonly disabled?: boolean;
}

interface CreationBody {
  readonly email: string;
  readonly password: string;
  readonly role: Role;
}

interface IdParams {
  readonly id: string;
}

const ADMIN = { access: { kind: 'bearer', role: 'admin' } } as const;
const tags = ['people'];
const email: TSchema = Type.String({ minLength: 3, maxLength: LIMITS.emailCharacters.value });
const password: TSchema = Type.String({
  minLength: LIMITS.passwordLeastCharacters.value,
  maxLength: LIMITS.passwordCharacters.value,
});
const role: TSchema = Type.Union(ROLES.map((name) => Type.Literal(name)));
const closed = { additionalProperties: false };

const CreationSchema: TSchema = Type.Object({ email, password, role }, closed);
const PatchSchema: TSchema = Type.Object(
  {
    email: Type.Optional(email),
    password: Type.Optional(password),
    role: Type.Optional(role),
    disabled: Type.Optional(Type.Boolean()),
  },
  { ...closed, minProperties: 1 },
);
const UserSchema: TSchema = Type.Object({
  id: Type.String(),
  email: Type.String(),
  role,
  createdAt: Type.Integer(),
  disabledAt: Type.Union([Type.Integer(), Type.Null()]),
});
const QuerySchema: TSchema = Type.Object({ ...PAGE_QUERY }, closed);

/** The id in the cursor of a list sorted by id alone; null at its start. Shared by the lists of this file's kind. */
export function idBefore(query: PageQuery): string | null {
  const key = readCursor(query, ['string']);
  return key === null ? null : String(key[0]);
}

/** Builds the routes. */
export function usersRoutes(services: UserServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    const create = { summary: 'Makes a user', tags, body: CreationSchema, response: { 201: UserSchema } };
    app.post<{ Body: CreationBody }>('/v1/users', { config: ADMIN, schema: create }, async (request, reply) =>
      reply.code(201).send(await services.create(request.body)),
    );

    const list = {
      summary: 'Users, newest first',
      tags,
      querystring: QuerySchema,
      response: { 200: pageOf(UserSchema) },
    };
    app.get<{ Querystring: PageQuery }>('/v1/users', { config: ADMIN, schema: list }, async ({ query }) => {
      const limit = readLimit(query);
      const rows = await services.list(idBefore(query), limit + 1);
      return toPage(
        rows,
        limit,
        (user) => [user.id],
        (user) => user,
      );
    });

    const get = { summary: 'One user', tags, params: IdParamsSchema, response: { 200: UserSchema } };
    app.get<{ Params: IdParams }>('/v1/users/:id', { config: ADMIN, schema: get }, ({ params }) =>
      services.get(params.id),
    );

    const patch = {
      summary: 'Changes a user; ends the sessions of that user',
      tags,
      params: IdParamsSchema,
      body: PatchSchema,
      response: { 200: UserSchema },
    };
    app.patch<{ Params: IdParams; Body: UserPatchBody }>('/v1/users/:id', { config: ADMIN, schema: patch }, (request) =>
      services.patch(request.params.id, request.body),
    );

    const remove = { summary: 'Deletes a user', tags, params: IdParamsSchema, response: { 204: Type.Null() } };
    app.delete<{ Params: IdParams }>('/v1/users/:id', { config: ADMIN, schema: remove }, async (request, reply) => {
      await services.remove(request.params.id);
      return reply.code(204).send();
    });
  };
}
