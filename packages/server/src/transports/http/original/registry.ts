/**
 * Zones and sensors as the original client registers and lists them.
 * A city or a key that exists already answers 201 with the existing object, as the client expects.
 */
import { LIMITS } from '@tocsin/protocol/limits';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { plainText } from '../validation.ts';
import { bothForms } from './paths.ts';

/** A zone of the original client. */
interface Zone {
  readonly id: number;
  readonly city: string;
}

/** A sensor as the registry knows it. */
interface Sensor {
  readonly id: number;
  readonly active: boolean;
  readonly zoneId: number | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
}

/** What the routes need of the registry (see `registry/original.ts`). Lists are bounded there. */
export interface OriginalRegistryServices {
  createOrFindOriginalZone(city: string): Promise<{ readonly zone: Zone }>;
  /** Refuses `schema` for a key that is none or a zone that is not there. */
  createOrFindOriginalDevice(request: {
    readonly active: boolean;
    readonly zoneId: number;
    readonly latitude: number | null;
    readonly longitude: number | null;
    readonly publicKeyHex: string;
  }): Promise<{ readonly device: Sensor }>;
  listOriginalZones(): Promise<Zone[]>;
  listOriginalDevices(): Promise<Sensor[]>;
}

interface SensorBody {
  readonly active: boolean;
  readonly zone_id: number;
  readonly latitude: number;
  readonly longitude: number;
  readonly public_key_hex: string;
}

/** A sensor as it is shown. */
interface SensorView {
  readonly id: number;
  readonly active: boolean;
  readonly zone_id: number | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
}

const CLOSED = { additionalProperties: false } as const;
/** Every form of a key fits many times over; the registry reads the text. */
const KEY_CHARACTERS = 2000;
/** The largest integer of the store's sequences. */
const MOST_NUMBER = 0x7fffffff;

const ZONE_BODY: TSchema = Type.Object({ city: plainText(LIMITS.nameCharacters.value) }, CLOSED);
const SENSOR_BODY: TSchema = Type.Object(
  {
    active: Type.Boolean(),
    zone_id: Type.Integer({ minimum: 0, maximum: MOST_NUMBER }),
    latitude: Type.Number({ minimum: -90, maximum: 90 }),
    longitude: Type.Number({ minimum: -180, maximum: 180 }),
    public_key_hex: Type.String({ minLength: 1, maxLength: KEY_CHARACTERS }),
  },
  CLOSED,
);
const ZONE: TSchema = Type.Object({ id: Type.Integer(), city: Type.String() });
const SENSOR: TSchema = Type.Object({
  id: Type.Integer(),
  active: Type.Boolean(),
  zone_id: Type.Union([Type.Integer(), Type.Null()]),
  latitude: Type.Union([Type.Number(), Type.Null()]),
  longitude: Type.Union([Type.Number(), Type.Null()]),
});
const QUERY: TSchema = Type.Object({}, CLOSED);

const REGISTER = { access: { kind: 'api-key', scope: 'register' } } as const;
const READ = { access: { kind: 'api-key-or-bearer' } } as const;
const TAGS = ['original'];

function showSensor(sensor: Sensor): SensorView {
  const { id, active, zoneId, latitude, longitude } = sensor;
  return { id, active, zone_id: zoneId, latitude, longitude };
}

/** Registers `/zones/` and `/misurators/`. */
export function originalRegistryRoutes(app: FastifyInstance, registry: OriginalRegistryServices): void {
  for (const { url, hide } of bothForms('/zones/')) {
    const create = { hide, tags: TAGS, summary: 'Make or find a zone', body: ZONE_BODY, response: { 201: ZONE } };
    app.post<{ Body: { city: string } }>(url, { config: REGISTER, schema: create }, async ({ body }, reply) => {
      const { zone } = await registry.createOrFindOriginalZone(body.city);
      return reply.code(201).send({ id: zone.id, city: zone.city });
    });
    const list = { hide, tags: TAGS, summary: 'All zones', querystring: QUERY, response: { 200: Type.Array(ZONE) } };
    app.get(url, { config: READ, schema: list }, async () =>
      (await registry.listOriginalZones()).map(({ id, city }) => ({ id, city })),
    );
  }
  for (const { url, hide } of bothForms('/misurators/')) {
    const create = {
      hide,
      tags: TAGS,
      summary: 'Register or find a sensor',
      body: SENSOR_BODY,
      response: { 201: SENSOR },
    };
    app.post<{ Body: SensorBody }>(url, { config: REGISTER, schema: create }, async ({ body }, reply) => {
      const { active, zone_id: zoneId, latitude, longitude, public_key_hex: publicKeyHex } = body;
      const { device } = await registry.createOrFindOriginalDevice({
        active,
        zoneId,
        latitude,
        longitude,
        publicKeyHex,
      });
      return reply.code(201).send(showSensor(device));
    });
    const list = {
      hide,
      tags: TAGS,
      summary: 'All sensors',
      querystring: QUERY,
      response: { 200: Type.Array(SENSOR) },
    };
    app.get(url, { config: READ, schema: list }, async () => (await registry.listOriginalDevices()).map(showSensor));
  }
}
