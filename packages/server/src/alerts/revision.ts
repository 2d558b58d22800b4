/**
 * What a finding does to the alert of its fingerprint: the first revision, a further one, or nothing. Pure.
 *
 * Guarantees: severity never sinks; an acknowledged alert stays acknowledged until it ends, a resolved one stays as it is; the same
 * content, or less of it than is known, changes nothing. What makes the alert itself (id, kind, status, place in the
 * registry, onset, fingerprint, first time) never changes.
 */
import { type Alert, type Severity, severityRank } from '@tocsin/protocol/alert';
import type { AlertFinding } from '@tocsin/protocol/finding';
import type { AlertDraft } from '../store/ports/alerts.ts';
import { canonical } from '../lib/canonical-json.ts';
import { cleanDescription, cleanEvidence, cleanHeadline } from './text.ts';

/** Why a finding changes its alert or does not. `older`: its envelopes are a part of those that the alert names. */
export type RevisionReason = 'grown' | 'same' | 'older' | 'resolved';

/** A finding fit to be sent: clean texts, bounded evidence, finite numbers. */
export function cleanFinding(finding: AlertFinding): AlertFinding {
  const { latitude, longitude } = finding;
  const known = latitude !== null && longitude !== null && Number.isFinite(latitude) && Number.isFinite(longitude);
  return {
    ...finding,
    headline: cleanHeadline(finding.headline),
    description: cleanDescription(finding.description),
    latitude: known ? latitude : null,
    longitude: known ? longitude : null,
    onset: Math.round(finding.onset),
    evidence: cleanEvidence(finding.evidence),
  };
}

/** The first revision of a clean finding. */
export function firstRevision(id: string, finding: AlertFinding, now: number): AlertDraft {
  return {
    id,
    kind: finding.kind,
    severity: finding.severity,
    status: finding.status,
    state: 'open',
    revision: 1,
    headline: finding.headline,
    description: finding.description,
    zoneId: finding.zoneId,
    deviceId: finding.deviceId,
    latitude: finding.latitude,
    longitude: finding.longitude,
    onset: finding.onset,
    sentAt: now,
    updatedAt: now,
    fingerprint: finding.fingerprint,
    evidence: finding.evidence,
  };
}

/** Decides about a clean finding whose alert exists. */
export function decideRevision(alert: AlertDraft, finding: AlertFinding): RevisionReason {
  if (alert.state === 'resolved') return 'resolved';
  if (severityRank(finding.severity) > severityRank(alert.severity)) return 'grown';
  if (canonical(finding.evidence) === canonical(alert.evidence)) return 'same';
  return isPart(envelopesOf(finding), envelopesOf(alert)) ? 'older' : 'grown';
}

/** The revision that a finding that has grown makes. */
export function nextRevision(alert: AlertDraft, finding: AlertFinding, now: number): AlertDraft {
  const { headline, description, latitude, longitude, evidence } = finding;
  const severity = worse(alert.severity, finding.severity);
  const revision = alert.revision + 1;
  return {
    ...alert,
    severity,
    revision,
    headline,
    description,
    latitude,
    longitude,
    updatedAt: laterOf(alert, now),
    evidence,
  };
}

/** The revision that ends an alert which is not resolved: what it was about is over. The actor is the system. */
export function endRevision(alert: AlertDraft, finding: AlertFinding, now: number): AlertDraft {
  return {
    ...alert,
    state: 'resolved',
    revision: alert.revision + 1,
    description: cleanDescription(`${alert.description} ${finding.description}`),
    updatedAt: laterOf(alert, now),
    evidence: cleanEvidence({ ...alert.evidence, ...finding.evidence }),
  };
}

/** Clocks of processes differ; a later revision never looks earlier. */
export function laterOf(alert: Pick<Alert, 'updatedAt'>, now: number): number {
  return Math.max(alert.updatedAt, now);
}

/**
 * Of several findings of one fingerprint in one batch, the last that says more; with the worst severity, in the place of the
 * first. An end is never folded: what comes before it and after it are findings of their own.
 */
export function foldFindings(findings: readonly AlertFinding[]): AlertFinding[] {
  const folded: AlertFinding[] = [];
  const places = new Map<string, number>();
  for (const finding of findings) {
    const { fingerprint, severity } = finding;
    const place = places.get(fingerprint);
    const before = place === undefined ? undefined : folded[place];
    if (finding.ends === true) places.delete(fingerprint);
    else if (place === undefined) places.set(fingerprint, folded.length);
    if (finding.ends === true || place === undefined || before === undefined) folded.push(finding);
    else if (
      !isPart(envelopesOf(finding), envelopesOf(before)) ||
      severityRank(severity) > severityRank(before.severity)
    ) {
      folded[place] = { ...finding, severity: worse(before.severity, severity) };
    }
  }
  return folded;
}

function worse(a: Severity, b: Severity): Severity {
  return severityRank(b) > severityRank(a) ? b : a;
}

function envelopesOf(about: Pick<Alert, 'evidence'>): ReadonlySet<string> {
  const { envelopes } = about.evidence;
  return new Set(Array.isArray(envelopes) ? envelopes.map((envelope) => canonical(envelope)) : []);
}

/** True when `some` is less than `all` and nothing else. */
function isPart(some: ReadonlySet<string>, all: ReadonlySet<string>): boolean {
  return some.size < all.size && [...some].every((envelope) => all.has(envelope));
}
