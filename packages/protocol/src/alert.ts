/**
 * What viewers are told: an alert. Shapes as in the contract; times are Unix milliseconds.
 */

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
export type AlertStatus = 'actual' | 'exercise';
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
