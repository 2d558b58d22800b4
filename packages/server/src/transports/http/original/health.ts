/**
 * `GET /health` of the original client. Always 200: what is wrong stands in the body (`/health/ready` is the one that
 * answers 503). `redis` is the bus: the in-process bus of an installation without Redis is connected by nature.
 */
import type { FastifyInstance } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { bothForms } from './paths.ts';

/** What the route asks. Neither may reject nor take longer than a few seconds. */
export interface OriginalHealthServices {
  databaseAnswers(): Promise<boolean>;
  busAnswers(): boolean | Promise<boolean>;
  /** Unix ms. */
  now(): number;
}

const ANSWER: TSchema = Type.Object({
  status: Type.String({ description: 'healthy | degraded' }),
  timestamp: Type.String(),
  services: Type.Object({
    database: Type.String({ description: 'connected | disconnected' }),
    redis: Type.String({ description: 'connected | disconnected' }),
  }),
});

/** Registers `/health`. */
export function originalHealthRoutes(app: FastifyInstance, services: OriginalHealthServices): void {
  const word = (answers: boolean): string => (answers ? 'connected' : 'disconnected');
  for (const { url, hide } of bothForms('/health')) {
    const schema = { hide, tags: ['original'], summary: 'Is it well?', response: { 200: ANSWER } };
    app.get(url, { config: { access: { kind: 'public' } }, schema }, async () => {
      const [database, bus] = await Promise.all([services.databaseAnswers(), services.busAnswers()]);
      return {
        status: database && bus ? 'healthy' : 'degraded',
        timestamp: new Date(services.now()).toISOString(),
        services: { database: word(database), redis: word(bus) },
      };
    });
  }
}
