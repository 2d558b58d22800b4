/** Every HTTP route, with the functions that it stands for. */
import type { FastifyInstance } from 'fastify';
import { toCap } from '../alerts/cap.ts';
import { newDraft } from '../ingest/stage.ts';
import {
  createStatistics,
  type Statistics,
  type StatisticsResult,
  type StatisticsService,
} from '../registry/statistics.ts';
import type { AlertFilter } from '../store/ports/alerts.ts';
import { createStatisticsStore } from '../store/postgres/statistics.ts';
import { alertDeliveryRoute } from '../transports/http/alert-delivery.ts';
import { alertRoutes } from '../transports/http/alerts.ts';
import { apiKeysRoutes } from '../transports/http/api-keys.ts';
import { authRoutes } from '../transports/http/auth.ts';
import { deviceRoutes } from '../transports/http/devices.ts';
import { registerDocs } from '../transports/http/docs.ts';
import { healthRoutes } from '../transports/http/health.ts';
import { jwksRoutes } from '../transports/http/jwks.ts';
import { refusalOf } from '../transports/http/problem.ts';
import { misurationsRoutes, type ReadingsServices, readingsRoutes } from '../transports/http/readings.ts';
import { type OriginalServices, originalRoutes } from '../transports/http/original/routes.ts';
import { statisticsRoutes } from '../transports/http/statistics.ts';
import { upgradeOnlyRoutes } from '../transports/http/upgrade-only.ts';
import { usersRoutes } from '../transports/http/users.ts';
import { zoneRoutes } from '../transports/http/zones.ts';
import { ALERTS_PATH, DEVICES_PATH } from '../transports/websocket/request.ts';
import type { Health } from '../ops/health.ts';
import type { Ground } from './ground.ts';
import type { Pipeline } from './pipeline.ts';
import { VERSION } from './version.ts';

const DATABASE_TIMEOUT_MS = 2000;

/** What routes need beside the ground. */
export interface RouteParts {
  readonly pipeline: Pipeline;
  readonly health: Health;
  readonly publicUrl: string;
  /** False: health and metrics only. */
  readonly gateway: boolean;
}

/** Registers them all on a server that does not listen yet. */
export async function registerRoutes(app: FastifyInstance, ground: Ground, parts: RouteParts): Promise<void> {
  const { metrics } = ground;
  await registerDocs(app, { version: VERSION, publicUrl: parts.publicUrl });
  healthRoutes(app, {
    ready: () => parts.health.ready(),
    metrics: () => metrics.text(),
    metricsType: metrics.contentType,
  });
  if (!parts.gateway) return;
  upgradeOnlyRoutes(app, [ALERTS_PATH, DEVICES_PATH]);
  await app.register(jwksRoutes({ jwks: () => ground.identity.signingKeys.jwks() }));
  await registerPeople(app, ground, parts.publicUrl);
  registerRegistry(app, ground);
  registerAlerts(app, ground, parts);
  const readings = readingsServices(ground, parts.pipeline);
  await app.register(readingsRoutes(readings));
  await app.register(misurationsRoutes(readings));
  const statistics = createStatistics(createStatisticsStore(ground.store.front));
  await app.register(statisticsRoutes(statistics));
  await app.register(originalRoutes(originalServices(ground, parts.pipeline, statistics)));
}

function originalServices(ground: Ground, { alerts }: Pipeline, statistics: StatisticsService): OriginalServices {
  const { registry, store, bus, clock } = ground;
  const anyAlert: AlertFilter = {
    zoneId: null,
    deviceId: null,
    kind: null,
    severity: null,
    state: null,
    since: null,
    until: null,
  };
  return {
    registry,
    reports: {
      zoneExists: async (id) => (await registry.zoneFacts(id)) !== null,
      listAlerts: ({ zoneId, limit }) => alerts.list({ ...anyAlert, zoneId }, null, limit),
      deviceStatistics: async (id) => oneOf(await statistics.device(id, {})),
      now: () => clock.now(),
    },
    health: {
      databaseAnswers: () => store.db.answers(DATABASE_TIMEOUT_MS),
      busAnswers: () => bus.healthy(),
      now: () => clock.now(),
    },
  };
}

/** Statistics without buckets are one answer. */
function oneOf(result: StatisticsResult): Statistics {
  if ('count' in result) return result;
  throw new TypeError('statistics came in buckets that nobody asked for');
}

async function registerPeople(app: FastifyInstance, { identity, clock }: Ground, publicUrl: string): Promise<void> {
  await app.register(
    authRoutes({
      signIn: (request) => identity.signIn(request),
      refresh: (request) => identity.refresh(request),
      signOut: (sessionId) => identity.signOut(sessionId),
      ticket: (holder) => identity.tickets.issue(holder),
      holder: (authorization) => identity.holder(authorization),
      now: () => clock.now(),
      publicOrigin: new URL(publicUrl).origin,
    }),
  );
  await app.register(usersRoutes(identity.users));
  await app.register(apiKeysRoutes(identity.apiKeys));
}

function registerRegistry(app: FastifyInstance, { registry }: Ground): void {
  zoneRoutes(app, registry.zones);
  deviceRoutes(app, { devices: registry.devices, publicKeyPem: registry.publicKeyPem });
}

function registerAlerts(app: FastifyInstance, { registry, clock }: Ground, { pipeline, publicUrl }: RouteParts): void {
  const { alerts, ledger, deliveries } = pipeline;
  alertRoutes(app, {
    get: (id) => alerts.get(id),
    list: (filter, before, limit) => alerts.list(filter, before, limit),
    act: (id, action, actor, now) => ledger.act(id, action, actor, now),
    drill: (drill, actor, now) => ledger.drill(drill, actor, now),
    toCap: (record, zoneName) => toCap(record, { publicUrl, zoneName }),
    zone: (id) => registry.zoneFacts(id),
    now: () => clock.now(),
  });
  alertDeliveryRoute(app, { delivery: (id) => deliveries.report(id) });
}

function readingsServices({ clock }: Ground, pipeline: Pipeline): ReadingsServices {
  return {
    envelope: (arrived) => pipeline.envelopes(newDraft('http', 'envelope', arrived, clock.now())),
    original: (arrived) => pipeline.originals(newDraft('original', 'original', arrived, clock.now())),
    refused: (transport, error) => pipeline.rejected(transport, refusalOf(error)?.code ?? 'internal'),
  };
}
