/**
 * What viewers are told: an alert. Shapes as in the contract; times are Unix milliseconds.
 */
import { Type, type TSchema } from 'typebox';
import { IDENTIFIER_PATTERN } from './identifiers.ts';
import { LIMITS } from './limits.ts';

/** Severities from the worst to the least; `unknown` sorts last. */
export const SEVERITIES = ['extreme', 'severe', 'moderate', 'minor', 'unknown'] as const;
/** How bad it is (CAP 1.2 `severity`, in lower case). */
export type Severity = (typeof SEVERITIES)[number];

/** Rank of a severity: extreme 4, severe 3, moderate 2, minor 1, unknown 0. */
export function severityRank(severity: Severity): number {
  return severity === 'unknown' ? 0 : 4 - SEVERITIES.indexOf(severity);
}

/** The kinds of alert that exist so far. */
export const ALERT_KINDS = [
  'seismic.swarm',
  'seismic.event',
  'host.cpu',
  'host.memory',
  'host.disk',
  'host.gpu',
  'host.silent',
  'mobile.trust',
  'edr.risk',
  'system.connection-spike',
  'system.degraded',
  'operator.drill',
] as const;
/** A kind of alert. */
export type AlertKind = (typeof ALERT_KINDS)[number];

/** Real, or a drill (CAP 1.2 `status`). */
export const ALERT_STATUSES = ['actual', 'exercise'] as const;
/** See {@link ALERT_STATUSES}. */
export type AlertStatus = (typeof ALERT_STATUSES)[number];
/** The states of an alert. */
export const ALERT_STATES = ['open', 'acknowledged', 'resolved'] as const;
/** Where an alert is in its life. */
export type AlertState = (typeof ALERT_STATES)[number];

/** An alert as viewers and lists show it. `signature` is a detached JWS over the RFC 8785 form of the rest. */
export interface Alert {
  readonly id: string;
  readonly kind: AlertKind;
  readonly severity: Severity;
  readonly status: AlertStatus;
  readonly state: AlertState;
  readonly revision: number;
  readonly offset: number;
  readonly headline: string;
  readonly description: string;
  readonly zoneId: string | null;
  readonly deviceId: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly onset: number;
  readonly sentAt: number;
  readonly updatedAt: number;
  readonly fingerprint: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  readonly signature: string;
}

const orNull = (schema: TSchema): TSchema => Type.Union([schema, Type.Null()]);

/** The schema of {@link Alert}. Exactly these members, in this order on the wire. */
export const AlertSchema: TSchema = Type.Object(
  {
    id: Type.String({ pattern: '^[0-7][0-9A-HJKMNP-TV-Z]{25}$', description: 'ULID' }),
    kind: Type.Enum([...ALERT_KINDS]),
    severity: Type.Enum([...SEVERITIES]),
    status: Type.Enum([...ALERT_STATUSES]),
    state: Type.Enum([...ALERT_STATES]),
    revision: Type.Integer({ minimum: 1 }),
    offset: Type.Integer({ minimum: 1, description: 'of its newest message in the channel' }),
    headline: Type.String({ maxLength: LIMITS.headlineCharacters.value }),
    description: Type.String({ maxLength: LIMITS.descriptionCharacters.value }),
    zoneId: orNull(Type.String({ pattern: IDENTIFIER_PATTERN })),
    deviceId: orNull(Type.String({ pattern: IDENTIFIER_PATTERN })),
    latitude: orNull(Type.Number({ minimum: -90, maximum: 90 })),
    longitude: orNull(Type.Number({ minimum: -180, maximum: 180 })),
    onset: Type.Integer({ description: 'Unix ms, by the readings themselves' }),
    sentAt: Type.Integer({ description: 'Unix ms of the first revision' }),
    updatedAt: Type.Integer({ description: 'Unix ms of this revision' }),
    fingerprint: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    evidence: Type.Record(Type.String(), Type.Unknown()),
    signature: Type.String({
      pattern: '^[A-Za-z0-9_-]+\\.\\.[A-Za-z0-9_-]+$',
      description: 'detached JWS, RFC 7515 appendix F',
    }),
  },
  { additionalProperties: false },
);
