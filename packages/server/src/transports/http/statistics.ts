/**
 * The routes of statistics (wire section 3): of a device, of a zone, of everything.
 * `from` is inclusive, `to` exclusive, both over the readings' own time; with `bucket` the answer is the list of the
 * buckets that hold readings, oldest first, each with its start `from`, a multiple of its width since 1970 (UTC).
 */
import { LIMITS } from '@tocsin/protocol/limits';
import { IDENTIFIER_PATTERN } from '@tocsin/protocol/identifiers';
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { parseInteger, parseTime } from './validation.ts';

/** What is asked, parsed. */
export interface AskedStatistics {
  readonly from?: number;
  readonly to?: number;
  readonly field?: string;
  readonly bucket?: number;
}

/** What answers (see `registry/statistics.ts`); both refuse `not-found` and `malformed-parameter`. */
export interface StatisticsServices {
  device(id: string, query: AskedStatistics): Promise<unknown>;
  zone(id: string, query: AskedStatistics): Promise<unknown>;
  everything(query: AskedStatistics): Promise<unknown>;
}

/** The query as it arrives. */
interface RawQuery {
  readonly from?: string;
  readonly to?: string;
  readonly field?: string;
  readonly bucket?: string;
}

/** A year. */
const WIDEST_BUCKET_SECONDS = 31_536_000;

const QUERY: TSchema = Type.Object(
  {
    from: Type.Optional(
      Type.String({ description: 'first time, inclusive: Unix ms or ISO 8601; absent: from the beginning' }),
    ),
    to: Type.Optional(Type.String({ description: 'last time, exclusive: Unix ms or ISO 8601; absent: to the end' })),
    field: Type.Optional(
      Type.String({ description: 'value | cpu_percent | mem_percent | … (the main field when absent)' }),
    ),
    bucket: Type.Optional(
      Type.String({ description: `seconds: answers a list, at most ${LIMITS.statisticsBuckets.value} buckets` }),
    ),
  },
  { additionalProperties: false },
);
const PARAMS: TSchema = Type.Object({ id: Type.String({ pattern: IDENTIFIER_PATTERN }) });
const orNull = (schema: TSchema): TSchema => Type.Union([schema, Type.Null()]);
const NUMBERS = {
  count: Type.Integer(),
  mean: orNull(Type.Number()),
  min: orNull(Type.Number()),
  max: orNull(Type.Number()),
  standardDeviation: orNull(Type.Number()),
  p50: orNull(Type.Number()),
  p95: orNull(Type.Number()),
  p99: orNull(Type.Number()),
  firstAt: orNull(Type.Integer()),
  lastAt: orNull(Type.Integer()),
};
const ANSWER: TSchema = Type.Union([
  Type.Object(NUMBERS),
  Type.Array(Type.Object({ from: Type.Integer({ description: 'start of the bucket, Unix ms' }), ...NUMBERS })),
]);

function readQuery(query: RawQuery): AskedStatistics {
  return {
    ...(query.from === undefined ? {} : { from: parseTime(query.from, 'from') }),
    ...(query.to === undefined ? {} : { to: parseTime(query.to, 'to') }),
    ...(query.field === undefined ? {} : { field: query.field }),
    ...(query.bucket === undefined ? {} : { bucket: parseInteger(query.bucket, 'bucket', 1, WIDEST_BUCKET_SECONDS) }),
  };
}

function docs(summary: string): { summary: string; tags: string[]; querystring: TSchema; response: { 200: TSchema } } {
  return { summary, tags: ['statistics'], querystring: QUERY, response: { 200: ANSWER } };
}

/** The three routes of statistics, as a plugin. */
export function statisticsRoutes(services: StatisticsServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    const viewer = { access: { kind: 'bearer', role: 'viewer' } } as const;
    app.get<{ Params: { id: string }; Querystring: RawQuery }>(
      '/v1/devices/:id/statistics',
      { config: viewer, schema: { ...docs('Statistics of a device'), params: PARAMS } },
      (request) => services.device(request.params.id, readQuery(request.query)),
    );
    app.get<{ Params: { id: string }; Querystring: RawQuery }>(
      '/v1/zones/:id/statistics',
      { config: viewer, schema: { ...docs('Statistics of a zone'), params: PARAMS } },
      (request) => services.zone(request.params.id, readQuery(request.query)),
    );
    app.get<{ Querystring: RawQuery }>(
      '/statistics',
      { config: { access: { kind: 'api-key-or-bearer' } }, schema: docs('Statistics of everything') },
      (request) => services.everything(readQuery(request.query)),
    );
  };
}
