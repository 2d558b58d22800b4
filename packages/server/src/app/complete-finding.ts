/**
 * Makes a finding whole for the ledger: its zone with name and place, the trace, the fingerprint.
 *
 * An earthquake belongs to the zone of the station nearest to it, among those that its evidence names and that are
 * registered now; to none when that station has none. Its place is its own, not the zone's. So is that of a single device:
 * one whose place nobody knows is not where its zone's devices are on average.
 *
 * What was found under the key of exercise devices is an exercise. This is the only place that says so.
 */
import type { AlertFinding } from '@tocsin/protocol/finding';
import { fingerprint } from '../alerts/fingerprint.ts';
import type { Finding } from '../detectors/detector.ts';
import { distanceKm, type Place } from '../detectors/travel.ts';
import type { Registry } from '../registry/registry.ts';
import type { Outcome } from '../workers/batch.ts';
import { isExerciseKey } from '../workers/exercise.ts';

/** What of the registry is asked, only when something was found. */
export type FindingRegistry = Pick<Registry, 'zoneFacts'> & {
  readonly directory: Pick<Registry['directory'], 'lookup'>;
};

/** See above. */
export async function completeFinding(
  registry: FindingRegistry,
  { finding, key, traceparent }: Outcome['findings'][number],
): Promise<AlertFinding> {
  const zoneId = finding.zoneId ?? (await zoneOfNearest(registry, finding));
  const zone = zoneId === null ? null : await registry.zoneFacts(zoneId);
  const name = zone?.name ?? zoneId ?? '';
  const named = (text: string): string => text.replaceAll('{zone}', () => name);
  const { latitude, longitude } = placeOf(finding) ?? (finding.deviceId === null ? zone?.place : null) ?? finding;
  return {
    ...finding,
    status: isExerciseKey(key) ? 'exercise' : finding.status,
    zoneId,
    // The trace of the envelope that the finding was told with: one trace runs from the device to the viewer.
    evidence: traceparent === null ? finding.evidence : { ...finding.evidence, traceparent },
    headline: named(finding.headline),
    description: named(finding.description),
    latitude,
    longitude,
    fingerprint: fingerprint(finding.kind, key, finding.onset),
  };
}

function placeOf({ latitude, longitude }: Pick<Finding, 'latitude' | 'longitude'>): Place | null {
  return latitude === null || longitude === null ? null : { latitude, longitude };
}

async function zoneOfNearest(registry: FindingRegistry, finding: Finding): Promise<string | null> {
  const place = placeOf(finding);
  const { picks } = finding.evidence;
  if (place === null || !Array.isArray(picks)) return null;
  const stations = await Promise.all(
    picks.map(async (pick: { readonly deviceId?: unknown }) => registry.directory.lookup(String(pick.deviceId))),
  );
  let nearest: { zoneId: string | null; km: number } | null = null;
  for (const station of stations) {
    const there = station === null ? null : placeOf(station);
    if (station === null || there === null) continue;
    const km = distanceKm(place, there);
    if (nearest === null || km < nearest.km) nearest = { zoneId: station.zoneId, km };
  }
  return nearest?.zoneId ?? null;
}
