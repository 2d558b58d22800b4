/**
 * Alerts over HTTP: lists, one alert as JSON or CAP 1.2, an operator's actions and exercises.
 *
 * A list is newest first by `sentAt`; `since` is inclusive, `until` exclusive. Doing an action again answers 200 with the
 * alert as it stands; only an exercise can be made by hand.
 */
import {
  ALERT_KINDS,
  ALERT_STATES,
  type Alert,
  type AlertKind,
  AlertSchema,
  type AlertState,
  SEVERITIES,
  type Severity,
} from '@tocsin/protocol/alert';
import { IDENTIFIER_PATTERN, isIdentifier } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type, type TSchema } from 'typebox';
import type { AlertFilter, AlertRecord } from '../../store/ports/alerts.ts';
import { preferredType } from './alerts-media.ts';
import { PAGE_QUERY, pageOf, type PageQuery, readCursor, readLimit, toPage } from './paging.ts';
import { parseTime, plainText } from './validation.ts';

/** What an operator may do to an alert. */
type Action = 'acknowledge' | 'resolve';

/** What became of an action. */
type ActionAnswer =
  | { readonly outcome: 'changed' | 'unchanged' | 'transition-forbidden'; readonly alert: Alert }
  | { readonly outcome: 'not-found' };

/** What the routes need. Times are Unix ms; actors are user ids. */
export interface AlertRoutesOptions {
  readonly get: (id: string) => Promise<AlertRecord | null>;
  readonly list: (filter: AlertFilter, before: string | null, limit: number) => Promise<readonly Alert[]>;
  readonly act: (id: string, action: Action, actor: string, now: number) => Promise<ActionAnswer>;
  readonly drill: (
    drill: {
      readonly severity: Severity;
      readonly headline: string;
      readonly description: string;
      readonly zoneId: string | null;
    },
    actor: string,
    now: number,
  ) => Promise<Alert>;
  /** The CAP message of an alert; `zoneName` null when the zone is not known. */
  readonly toCap: (record: AlertRecord, zoneName: string | null) => string;
  readonly zone: (id: string) => Promise<{ readonly name: string } | null>;
  readonly now: () => number;
}

interface ListQuery extends PageQuery {
  readonly zone?: string;
  readonly device?: string;
  readonly kind?: AlertKind;
  readonly severity?: Severity;
  readonly state?: AlertState;
  readonly since?: string;
  readonly until?: string;
}

interface DrillBody {
  readonly severity: Severity;
  readonly headline: string;
  readonly description?: string;
  readonly zoneId?: string;
}

const CLOSED = { additionalProperties: false } as const;
const identifier = (): TSchema => Type.Optional(Type.String({ pattern: IDENTIFIER_PATTERN }));
const time = (): TSchema => Type.Optional(Type.String({ description: 'Unix ms or ISO 8601' }));

const ListQuerySchema = Type.Object(
  {
    zone: identifier(),
    device: identifier(),
    kind: Type.Optional(Type.Enum([...ALERT_KINDS])),
    severity: Type.Optional(Type.Enum([...SEVERITIES])),
    state: Type.Optional(Type.Enum([...ALERT_STATES])),
    since: time(),
    until: time(),
    ...PAGE_QUERY,
  },
  CLOSED,
);
const NoQuerySchema = Type.Object({}, CLOSED);
const DrillSchema = Type.Object(
  {
    severity: Type.Enum([...SEVERITIES]),
    headline: plainText(LIMITS.headlineCharacters.value),
    description: Type.Optional(Type.String({ maxLength: LIMITS.descriptionCharacters.value })),
    zoneId: identifier(),
  },
  CLOSED,
);

const CAP_TYPE = 'application/cap+xml';
const FORMS = ['application/json', CAP_TYPE] as const;
const READER = { access: { kind: 'bearer', role: 'viewer' } } as const;
const OPERATOR = { access: { kind: 'bearer', role: 'operator' } } as const;
const TAGS = ['alerts'];

/** Registers the routes. */
export function alertRoutes(app: FastifyInstance, options: AlertRoutesOptions): void {
  listRoute(app, options);
  readRoute(app, options);
  drillRoute(app, options);
  actionRoute(app, options, 'acknowledge', 'Says that somebody looks after the alert');
  actionRoute(app, options, 'resolve', 'Says that it is over');
}

function listRoute(app: FastifyInstance, { list }: AlertRoutesOptions): void {
  const schema = {
    summary: 'Alerts, newest first',
    tags: TAGS,
    querystring: ListQuerySchema,
    response: { 200: pageOf(AlertSchema) },
  };
  app.get<{ Querystring: ListQuery }>('/v1/alerts', { config: READER, schema }, async ({ query }) => {
    const limit = readLimit(query);
    const [before] = readCursor(query, ['string']) ?? [null];
    const rows = await list(filterOf(query), before as string | null, limit + 1);
    return toPage(
      rows,
      limit,
      (alert) => [alert.id],
      (alert) => alert,
    );
  });
}

function filterOf(query: ListQuery): AlertFilter {
  const { zone, device, kind, severity, state, since, until } = query;
  return {
    zoneId: zone ?? null,
    deviceId: device ?? null,
    kind: kind ?? null,
    severity: severity ?? null,
    state: state ?? null,
    since: since === undefined ? null : parseTime(since, 'since'),
    until: until === undefined ? null : parseTime(until, 'until'),
  };
}

function readRoute(app: FastifyInstance, { get, toCap, zone }: AlertRoutesOptions): void {
  const schema = {
    summary: 'One alert, as JSON or CAP 1.2',
    tags: TAGS,
    querystring: NoQuerySchema,
    response: {
      200: { content: { 'application/json': { schema: AlertSchema }, [CAP_TYPE]: { schema: Type.String() } } },
    },
  };
  app.get<{ Params: { id: string } }>('/v1/alerts/:id', { config: READER, schema }, async (request, reply) => {
    const record = await get(known(request.params.id));
    if (record === null) throw noSuchAlert();
    reply.header('vary', 'Accept');
    if (preferredType(request.headers.accept, FORMS) !== CAP_TYPE) return record.alert;
    const { zoneId } = record.alert;
    const place = zoneId === null ? null : await zone(zoneId);
    return reply
      .type(`${CAP_TYPE}; charset=utf-8`)
      .serializer(String)
      .send(toCap(record, place?.name ?? null));
  });
}

function drillRoute(app: FastifyInstance, { drill, zone, now }: AlertRoutesOptions): void {
  const schema = {
    summary: 'Raises an exercise',
    tags: TAGS,
    querystring: NoQuerySchema,
    body: DrillSchema,
    response: { 201: AlertSchema },
  };
  app.post<{ Body: DrillBody }>('/v1/alerts', { config: OPERATOR, schema }, async (request, reply) => {
    const { severity, headline, description = '', zoneId = null } = request.body;
    if (zoneId !== null && (await zone(zoneId)) === null) {
      throw refuse('schema', 'The content breaks the schema', [
        { pointer: '/zoneId', detail: 'there is no such zone' },
      ]);
    }
    const alert = await drill({ severity, headline, description, zoneId }, actorOf(request), now());
    return reply.code(201).header('location', `/v1/alerts/${alert.id}`).send(alert);
  });
}

function actionRoute(app: FastifyInstance, { act, now }: AlertRoutesOptions, action: Action, summary: string): void {
  const schema = { summary, tags: TAGS, querystring: NoQuerySchema, response: { 200: AlertSchema } };
  app.post<{ Params: { id: string } }>(`/v1/alerts/:id/${action}`, { config: OPERATOR, schema }, async (request) => {
    const { body } = request;
    if (body !== undefined && body !== null && Object.keys(body).length > 0)
      throw refuse('schema', 'This takes no content');
    const answer = await act(known(request.params.id), action, actorOf(request), now());
    if (answer.outcome === 'not-found') throw noSuchAlert();
    if (answer.outcome === 'transition-forbidden')
      throw refuse('transition-forbidden', `The alert is ${answer.alert.state}`);
    return answer.alert;
  });
}

function known(id: string): string {
  if (!isIdentifier(id)) throw noSuchAlert();
  return id;
}

function noSuchAlert(): Error {
  return refuse('not-found', 'There is no such alert');
}

/** Only people have roles, so the caller is one. */
function actorOf({ caller }: FastifyRequest): string {
  if (caller.kind !== 'user') throw refuse('credentials-missing');
  return caller.id;
}
