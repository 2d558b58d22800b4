/**
 * `GET /health/live`, `GET /health/ready`, `GET /metrics`. No credentials; nothing here is slow or unbounded.
 * `ready` is 503 (a problem with the member `checks`) while the server starts, ends, or its store does not answer.
 */
import { ERRORS } from '@tocsin/protocol/errors';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { sendProblem } from './problem.ts';

/** What `ready` found. `degraded`: works, without its bus. */
export interface HealthReport {
  readonly status: 'ok' | 'degraded' | 'starting' | 'draining' | 'store-unavailable';
  readonly checks: Readonly<Record<string, unknown>>;
}

/** What the routes need. */
export interface HealthRoutesOptions {
  readonly ready: () => Promise<HealthReport> | HealthReport;
  /** The metrics in Prometheus text format. */
  readonly metrics: () => Promise<string> | string;
  /** The content type of {@link metrics}. */
  readonly metricsType?: string;
}

const PUBLIC = { access: { kind: 'public' } } as const;
const ReadySchema = Type.Object({ status: Type.String(), checks: Type.Record(Type.String(), Type.Unknown()) });

/** Registers the routes. */
export function healthRoutes(app: FastifyInstance, options: HealthRoutesOptions): void {
  const live = {
    summary: 'The process runs',
    tags: ['operations'],
    response: { 200: Type.Object({ status: Type.Literal('ok') }) },
  };
  app.get('/health/live', { config: PUBLIC, schema: live }, () => ({ status: 'ok' }));

  const ready = { summary: 'The server takes work', tags: ['operations'], response: { 200: ReadySchema } };
  app.get('/health/ready', { config: PUBLIC, schema: ready }, async (_request, reply) => {
    const { status, checks } = await options.ready();
    if (status === 'ok' || status === 'degraded') return { status, checks };
    return sendProblem(reply, { code: status, detail: ERRORS[status].title }, { checks });
  });

  const metrics = { summary: 'Metrics in Prometheus text format', tags: ['operations'], produces: ['text/plain'] };
  app.get('/metrics', { config: PUBLIC, schema: metrics }, async (_request, reply) => {
    const text = await options.metrics();
    return reply.type(options.metricsType ?? 'text/plain; version=0.0.4; charset=utf-8').send(text);
  });
}
