/**
 * The routes of the original seismic client (wire section 3, last paragraph), besides `POST /misurations/`.
 * Its spelling is kept: integers for zones and sensors (zone `z<int>`, device `m<int>`), snake case, bare arrays, ISO 8601
 * times. Each path answers with and without its trailing slash.
 */
import type { FastifyInstance } from 'fastify';
import { originalHealthRoutes, type OriginalHealthServices } from './health.ts';
import { originalRegistryRoutes, type OriginalRegistryServices } from './registry.ts';
import { originalReportRoutes, type OriginalReportServices } from './reports.ts';

/** What the routes need. */
export interface OriginalServices {
  readonly registry: OriginalRegistryServices;
  readonly reports: OriginalReportServices;
  readonly health: OriginalHealthServices;
}

/** All of them, as a plugin. */
export function originalRoutes(services: OriginalServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    originalRegistryRoutes(app, services.registry);
    originalReportRoutes(app, services.reports);
    originalHealthRoutes(app, services.health);
  };
}
