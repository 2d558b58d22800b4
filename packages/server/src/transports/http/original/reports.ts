/** What the original client reads: the alerts of a zone, the statistics of a sensor. */
import { type Alert, severityRank } from '@tocsin/protocol/alert';
import type { FastifyInstance } from 'fastify';
import { refuse } from '@tocsin/protocol/refusal-error';
import { Type, type TSchema } from 'typebox';
import { readLimit } from '../paging.ts';
import { bothForms, readNumber } from './paths.ts';

/** What of an alert is shown. */
type ShownAlert = Pick<Alert, 'id' | 'severity' | 'status' | 'headline' | 'sentAt'>;

/** The members of a statistics answer (`registry/statistics.ts`) that are shown. */
interface ShownStatistics {
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
}

/** What the routes need. Ids are ours: `z<int>`, `m<int>`. */
export interface OriginalReportServices {
  zoneExists(id: string): Promise<boolean>;
  /** The alerts of a zone, newest first. */
  listAlerts(query: { readonly zoneId: string; readonly limit: number }): Promise<readonly ShownAlert[]>;
  /** Over all readings; refuses `not-found`. */
  deviceStatistics(id: string): Promise<ShownStatistics>;
  /** Unix ms. */
  now(): number;
}

/** An alert as the original client sees it; `severity` from 4 (extreme) to 0 (unknown). */
interface OriginalAlert {
  readonly id: string;
  readonly zone_id: number;
  readonly timestamp: string;
  readonly severity: number;
  readonly message: string;
}

const CLOSED = { additionalProperties: false } as const;
const READ = { access: { kind: 'api-key-or-bearer' } } as const;
const TAGS = ['original'];
const PARAMS: TSchema = Type.Object({ id: Type.String() });
const orNull = Type.Union([Type.Number(), Type.Null()]);
const ALERTS: TSchema = Type.Array(
  Type.Object({
    id: Type.String(),
    zone_id: Type.Integer(),
    timestamp: Type.String(),
    severity: Type.Integer({ minimum: 0, maximum: 4 }),
    message: Type.String(),
  }),
);
const STATISTICS: TSchema = Type.Object({
  misurator_id: Type.Integer(),
  total_readings: Type.Integer(),
  average_value: orNull,
  max_recorded: orNull,
  min_recorded: orNull,
  generated_at: Type.String(),
});

/** The client cannot tell a drill from an alarm by a member, so the message says it. Pure. */
export function showAlert(alert: ShownAlert, zone: number): OriginalAlert {
  return {
    id: alert.id,
    zone_id: zone,
    timestamp: new Date(alert.sentAt).toISOString(),
    severity: severityRank(alert.severity),
    message: alert.status === 'exercise' ? `EXERCISE: ${alert.headline}` : alert.headline,
  };
}

/** Registers `/zones/{id}/alerts` and `/sensors/{id}/statistics`. */
export function originalReportRoutes(app: FastifyInstance, services: OriginalReportServices): void {
  const limit = Type.Object({ limit: Type.Optional(Type.String({ description: '1 to 500, 50 when absent' })) }, CLOSED);
  for (const { url, hide } of bothForms('/zones/:id/alerts')) {
    const schema = {
      hide,
      tags: TAGS,
      summary: 'Alerts of a zone',
      params: PARAMS,
      querystring: limit,
      response: { 200: ALERTS },
    };
    app.get<{ Params: { id: string }; Querystring: { limit?: string } }>(
      url,
      { config: READ, schema },
      async (request) => {
        const zone = readNumber(request.params.id);
        const most = readLimit(request.query);
        const zoneId = `z${zone}`;
        if (!(await services.zoneExists(zoneId))) throw refuse('not-found', 'There is no such zone');
        return (await services.listAlerts({ zoneId, limit: most })).map((alert) => showAlert(alert, zone));
      },
    );
  }
  for (const { url, hide } of bothForms('/sensors/:id/statistics')) {
    const none = Type.Object({}, CLOSED);
    const schema = {
      hide,
      tags: TAGS,
      summary: 'Statistics of a sensor',
      params: PARAMS,
      querystring: none,
      response: { 200: STATISTICS },
    };
    app.get<{ Params: { id: string } }>(url, { config: READ, schema }, async (request) => {
      const sensor = readNumber(request.params.id);
      const { count, mean, min, max } = await services.deviceStatistics(`m${sensor}`);
      return {
        misurator_id: sensor,
        total_readings: count,
        average_value: mean,
        max_recorded: max,
        min_recorded: min,
        generated_at: new Date(services.now()).toISOString(),
      };
    });
  }
}
