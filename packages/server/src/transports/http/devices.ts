/**
 * `/v1/devices`: what reports. Viewers read, operators write. `DELETE` revokes for good: the id is never used again, the
 * readings stay, and the device can still be looked at (standing `revoked`; lists show it only when asked for).
 * Hosts that nobody registered are devices like others, without a key (`publicKey` null); POST with their id registers them.
 * A device made with `"exercise": true` is a simulated one, for good, and says so; others do not carry the member.
 */
import { PROFILES, type ProfileName } from '@tocsin/protocol/envelope';
import { refuse, type RefusalError } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { DeviceQuery, DeviceRow, Standing } from '../../store/ports/registry.ts';
import { DeviceQuerySchema, STANDINGS, parseDeviceQuery, type DeviceQueryText } from './devices-query.ts';
import { pageOf, toPage, type Page } from './paging.ts';
import { IdParamsSchema, IdentifierSchema } from './zones.ts';

interface Place {
  readonly latitude: number;
  readonly longitude: number;
}

/** What the routes need of the registry; every function may throw a RefusalError. */
export interface DeviceBook {
  create(device: {
    readonly id: string;
    readonly profile: ProfileName;
    readonly zoneId: string | null;
    readonly place: Place | null;
    readonly publicKey: string;
    readonly ownerId: string | null;
    readonly exercise: boolean;
  }): Promise<DeviceRow>;
  get(id: string): Promise<DeviceRow>;
  list(query: DeviceQuery): Promise<DeviceRow[]>;
  change(
    id: string,
    patch: {
      readonly zoneId?: string | null;
      readonly place?: Place | null;
      readonly publicKey?: string;
      readonly ownerId?: string | null;
      readonly standing?: Exclude<Standing, 'revoked'>;
    },
  ): Promise<DeviceRow>;
  revoke(id: string): Promise<void>;
}

/** What {@link deviceRoutes} needs. */
export interface DeviceRoutesOptions {
  readonly devices: DeviceBook;
  /** The PEM of a key as the store keeps it. */
  readonly publicKeyPem: (der: Buffer) => string;
}

/** A device as clients see it. */
export interface DeviceView extends Omit<DeviceRow, 'number' | 'zoneNumber' | 'publicKey' | 'exercise'> {
  /** PEM; null: nobody registered it. */
  readonly publicKey: string | null;
  /** Only of simulated devices. */
  readonly exercise?: true;
}

type Nullable<Value> = Value | null | undefined;

interface CreateBody {
  readonly id: string;
  readonly profile: ProfileName;
  readonly zoneId?: string | null;
  readonly latitude?: number | null;
  readonly longitude?: number | null;
  readonly publicKey: string;
  readonly ownerId?: string | null;
  readonly exercise?: boolean;
}

type PatchBody = Partial<Omit<CreateBody, 'id' | 'profile' | 'exercise'>> & {
  readonly standing?: Exclude<Standing, 'revoked'>;
};

/** The longest text of a public key; PEM of P-256 has 178 characters. */
const KEY_CHARACTERS = 1024;
const CLOSED = { additionalProperties: false } as const;
const orNull = (schema: TSchema): TSchema => Type.Union([schema, Type.Null()]);
const oneOf = (names: readonly string[]): TSchema => Type.Enum([...names]);

const ProfileSchema = oneOf(PROFILES);
const WRITABLE = {
  zoneId: Type.Optional(orNull(IdentifierSchema)),
  latitude: Type.Optional(orNull(Type.Number({ minimum: -90, maximum: 90 }))),
  longitude: Type.Optional(orNull(Type.Number({ minimum: -180, maximum: 180 }))),
  ownerId: Type.Optional(orNull(IdentifierSchema)),
};
const KeySchema = Type.String({
  minLength: 1,
  maxLength: KEY_CHARACTERS,
  description: 'PEM, hex DER SPKI, hex point 04…, or 64-byte hex',
});
const CreateSchema = Type.Object(
  {
    id: IdentifierSchema,
    profile: ProfileSchema,
    publicKey: KeySchema,
    ...WRITABLE,
    exercise: Type.Optional(
      Type.Boolean({ description: 'a simulated device, for good: what it tells raises exercises only; default false' }),
    ),
  },
  CLOSED,
);
const PatchSchema = Type.Object(
  {
    ...WRITABLE,
    publicKey: Type.Optional(KeySchema),
    standing: Type.Optional(oneOf(STANDINGS.filter((name) => name !== 'revoked'))),
  },
  CLOSED,
);
const DeviceSchema = Type.Object({
  id: IdentifierSchema,
  profile: ProfileSchema,
  zoneId: orNull(IdentifierSchema),
  latitude: orNull(Type.Number()),
  longitude: orNull(Type.Number()),
  publicKey: Type.Union([Type.String(), Type.Null()], { description: 'PEM; null for a host that nobody registered' }),
  ownerId: orNull(IdentifierSchema),
  standing: oneOf(STANDINGS),
  createdAt: Type.Integer(),
  updatedAt: Type.Integer(),
  exercise: Type.Optional(Type.Boolean({ description: 'true for a simulated device, else absent' })),
});

const READ = { access: { kind: 'bearer', role: 'viewer' } } as const;
const WRITE = { access: { kind: 'bearer', role: 'operator' } } as const;
const DOCUMENTED = { tags: ['devices'], security: [{ bearer: [] }] };

function halfPlace(missing: 'latitude' | 'longitude'): RefusalError {
  return refuse('schema', undefined, [{ pointer: `/${missing}`, detail: 'latitude and longitude go together' }]);
}

/** A place of two members that go together: both, both null, or both absent (undefined). */
function readPlace(latitude: Nullable<number>, longitude: Nullable<number>): Place | null | undefined {
  if (typeof latitude === 'number' && typeof longitude === 'number') return { latitude, longitude };
  if (typeof latitude === 'number') throw halfPlace('longitude');
  if (typeof longitude === 'number') throw halfPlace('latitude');
  if ((latitude === undefined) !== (longitude === undefined))
    throw halfPlace(latitude === undefined ? 'latitude' : 'longitude');
  return latitude === null ? null : undefined;
}

function createViewer(pem: (der: Buffer) => string): (row: DeviceRow) => DeviceView {
  return ({
    id,
    profile,
    zoneId,
    latitude,
    longitude,
    publicKey,
    ownerId,
    standing,
    exercise,
    createdAt,
    updatedAt,
  }) => ({
    id,
    profile,
    zoneId,
    latitude,
    longitude,
    publicKey: publicKey === null ? null : pem(publicKey),
    ownerId,
    standing,
    createdAt,
    updatedAt,
    ...(exercise ? { exercise } : {}),
  });
}

function readRoutes(app: FastifyInstance, devices: DeviceBook, view: (row: DeviceRow) => DeviceView): void {
  const list = {
    ...DOCUMENTED,
    summary: 'Devices, newest first',
    querystring: DeviceQuerySchema,
    response: { 200: pageOf(DeviceSchema) },
  };
  app.get<{ Querystring: DeviceQueryText }>(
    '/v1/devices',
    { config: READ, schema: list },
    async ({ query }): Promise<Page<DeviceView>> => {
      const parsed = parseDeviceQuery(query);
      const rows = await devices.list({ ...parsed, limit: parsed.limit + 1 });
      return toPage(rows, parsed.limit, (row) => [row.number], view);
    },
  );

  const one = { ...DOCUMENTED, summary: 'One device', params: IdParamsSchema, response: { 200: DeviceSchema } };
  app.get<{ Params: { id: string } }>('/v1/devices/:id', { config: READ, schema: one }, async ({ params }) =>
    view(await devices.get(params.id)),
  );
}

/** Registers the routes. */
export function deviceRoutes(app: FastifyInstance, options: DeviceRoutesOptions): void {
  const { devices } = options;
  const view = createViewer(options.publicKeyPem);
  readRoutes(app, devices, view);

  const create = { ...DOCUMENTED, summary: 'Register a device', body: CreateSchema, response: { 201: DeviceSchema } };
  app.post<{ Body: CreateBody }>('/v1/devices', { config: WRITE, schema: create }, async ({ body }, reply) => {
    const { id, profile, publicKey, zoneId = null, ownerId = null, exercise = false } = body;
    const place = readPlace(body.latitude, body.longitude) ?? null;
    const row = await devices.create({ id, profile, publicKey, zoneId, ownerId, place, exercise });
    return reply.code(201).header('location', `/v1/devices/${row.id}`).send(view(row));
  });

  const patch = {
    ...DOCUMENTED,
    summary: 'Change a device',
    params: IdParamsSchema,
    body: PatchSchema,
    response: { 200: DeviceSchema },
  };
  app.patch<{ Params: { id: string }; Body: PatchBody }>(
    '/v1/devices/:id',
    { config: WRITE, schema: patch },
    async ({ params, body }) => {
      const { latitude, longitude, ...rest } = body;
      const place = readPlace(latitude, longitude);
      return view(await devices.change(params.id, place === undefined ? rest : { ...rest, place }));
    },
  );

  const remove = {
    ...DOCUMENTED,
    summary: 'Revoke a device, for good',
    params: IdParamsSchema,
    response: { 204: Type.Null() },
  };
  app.delete<{ Params: { id: string } }>(
    '/v1/devices/:id',
    { config: WRITE, schema: remove },
    async ({ params }, reply) => {
      await devices.revoke(params.id);
      return reply.code(204).send();
    },
  );
}
