/** The query of `GET /v1/devices`: filters, and a circle (`near`, `radius`) or a box (`bbox`). Pure. */
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { PROFILES, isProfileName } from '@tocsin/protocol/envelope';
import { refuse } from '@tocsin/protocol/refusal-error';
import { Type, type TSchema } from 'typebox';
import type { DeviceArea, DeviceQuery, Standing } from '../../store/ports/registry.ts';
import { PAGE_QUERY, readLimit, type PageQuery } from './paging.ts';
import { parseNumber } from './validation.ts';
import { readNumberCursor } from './zones.ts';

/** Half of a great circle, metres: a wider radius finds nothing more. */
export const RADIUS_MOST = 20_038_000;

/** All standings. */
export const STANDINGS: readonly Standing[] = ['active', 'inactive', 'quarantined', 'blocked', 'revoked'];

/** The query as it arrives. */
export interface DeviceQueryText extends PageQuery {
  readonly zone?: string;
  readonly profile?: string;
  readonly standing?: string;
  readonly registered?: string;
  readonly near?: string;
  readonly radius?: string;
  readonly bbox?: string;
}

const text = (description: string): TSchema => Type.Optional(Type.String({ maxLength: 200, description }));

/** The schema of {@link DeviceQueryText}. */
export const DeviceQuerySchema: TSchema = Type.Object(
  {
    ...PAGE_QUERY,
    zone: text('zone id'),
    profile: text(PROFILES.join(', ')),
    standing: text(`${STANDINGS.join(', ')}; when absent, all but revoked`),
    registered: text('true or false; false: only hosts that nobody registered; when absent, both'),
    near: text('<lat>,<lon> in degrees, with radius'),
    radius: text('metres, with near (great circle)'),
    bbox: text('<west>,<south>,<east>,<north> in degrees; west > east crosses the antimeridian'),
  },
  { additionalProperties: false },
);

function bounded(value: string, name: string, most: number): number {
  const number = parseNumber(value.trim(), name);
  if (Math.abs(number) > most) throw refuse('malformed-parameter', `${name} must lie within ${-most} and ${most}`);
  return number;
}

function parseNear(near: string, radius: string): DeviceArea {
  const [lat, lon, more] = near.split(',');
  if (lat === undefined || lon === undefined || more !== undefined)
    throw refuse('malformed-parameter', 'near must be <lat>,<lon>');
  const metres = parseNumber(radius.trim(), 'radius');
  if (metres < 0 || metres > RADIUS_MOST)
    throw refuse('malformed-parameter', `radius must lie within 0 and ${RADIUS_MOST}`);
  return {
    kind: 'near',
    latitude: bounded(lat, 'near latitude', 90),
    longitude: bounded(lon, 'near longitude', 180),
    radius: metres,
  };
}

function parseBox(bbox: string): DeviceArea {
  const [w, s, e, n, more] = bbox.split(',');
  if (w === undefined || s === undefined || e === undefined || n === undefined || more !== undefined) {
    throw refuse('malformed-parameter', 'bbox must be <west>,<south>,<east>,<north>');
  }
  const south = bounded(s, 'bbox south', 90);
  const north = bounded(n, 'bbox north', 90);
  if (south > north) throw refuse('malformed-parameter', 'bbox south must not lie above north');
  return { kind: 'box', west: bounded(w, 'bbox west', 180), south, east: bounded(e, 'bbox east', 180), north };
}

function parseArea(query: DeviceQueryText): DeviceArea | null {
  const { near, radius, bbox } = query;
  if ((near === undefined) !== (radius === undefined))
    throw refuse('malformed-parameter', 'near and radius go together');
  if (near !== undefined && bbox !== undefined) throw refuse('malformed-parameter', 'near and bbox exclude each other');
  if (near !== undefined && radius !== undefined) return parseNear(near, radius);
  return bbox === undefined ? null : parseBox(bbox);
}

/** Parses the query; refuses `malformed-parameter`. `limit` is the page's, not one more. */
export function parseDeviceQuery(query: DeviceQueryText): DeviceQuery {
  const { zone, profile, standing, registered } = query;
  if (zone !== undefined && !isIdentifier(zone)) throw refuse('malformed-parameter', 'zone must be an identifier');
  if (profile !== undefined && !isProfileName(profile))
    throw refuse('malformed-parameter', `profile must be one of ${PROFILES.join(', ')}`);
  const known = STANDINGS.find((name) => name === standing);
  if (standing !== undefined && known === undefined)
    throw refuse('malformed-parameter', `standing must be one of ${STANDINGS.join(', ')}`);
  if (registered !== undefined && registered !== 'true' && registered !== 'false')
    throw refuse('malformed-parameter', 'registered must be true or false');
  return {
    zoneId: zone ?? null,
    profile: profile ?? null,
    standing: known ?? null,
    registered: registered === undefined ? null : registered === 'true',
    area: parseArea(query),
    before: readNumberCursor(query),
    limit: readLimit(query),
  };
}
