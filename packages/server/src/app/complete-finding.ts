/**
 * Makes a finding whole for the ledger: its zone with name and place, the trace, the fingerprint.
 *
 * An earthquake belongs to the zone of the station nearest to it, among those that its evidence names and that are
 * registered now; to none when that station has none. Its place is its own, not the zone's. So is that of a single device:
 * one whose place nobody knows is not where its zone's devices are on average.
 *
 * Of hosts that are silent it finds zone and place, and leaves out those that an operator has switched off (or quarantined,
 * removed, or made another kind of device): that these are not heard is as it should be. When none is left there is nothing to tell.
 *
 * What was found under the key of exercise devices is an exercise. This is the only place that says so.
 */
import type { AlertFinding } from '@tocsin/protocol/finding';
import { fingerprint } from '../alerts/fingerprint.ts';
import type { Finding } from '../detectors/detector.ts';
import { distanceKm, type Place } from '../detectors/travel.ts';
import type { Registry } from '../registry/registry.ts';
import type { Outcome } from '../workers/batch.ts';
import { exerciseKey, isExerciseKey } from '../workers/exercise.ts';

/** What of the registry is asked, only when something was found. */
export type FindingRegistry = Pick<Registry, 'zoneFacts'> & {
  readonly directory: Pick<Registry['directory'], 'lookup'>;
};

/** Names that the evidence of hosts that fell silent together holds. */
const NAMED = 100;

/** See above. Null: it is not to be told. */
export async function completeFinding(
  registry: FindingRegistry,
  { finding: found, key, traceparent }: Outcome['findings'][number],
): Promise<AlertFinding | null> {
  const { subject = key, ...rest } = found;
  const print = fingerprint(
    found.kind,
    isExerciseKey(key) && !isExerciseKey(subject) ? exerciseKey(subject) : subject,
    found.onset,
  );
  if (rest.ends === true) return { ...rest, fingerprint: print };
  const finding = rest.kind === 'host.silent' ? await silentHosts(registry, rest) : rest;
  if (finding === null) return null;
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
    fingerprint: print,
  };
}

/**
 * With the hosts that are to be missed, their numbers, and the first names of them: their zone when they have one in common,
 * and the place of a single one.
 */
async function silentHosts({ directory }: FindingRegistry, finding: Finding): Promise<Finding | null> {
  const { deviceId, evidence, headline, description } = finding;
  const named = Array.isArray(evidence['devices']) ? evidence['devices'].map(String) : [];
  const ids = deviceId === null ? named : [deviceId];
  const devices = await Promise.all(ids.map(async (id) => directory.lookup(id)));
  const missed = devices
    .filter((device) => device !== null)
    .filter(({ standing, profile }) => standing === 'active' && profile === 'host');
  const [first] = missed;
  if (first === undefined) return null;
  const zoneId = missed.every((device) => device.zoneId === first.zoneId) ? first.zoneId : null;
  if (deviceId !== null) return { ...finding, zoneId, latitude: first.latitude, longitude: first.longitude };
  const silent = missed.length;
  const hosts = Number(evidence['hosts']) - (ids.length - silent);
  const numbered = (text: string): string => text.replaceAll('{silent}', `${silent}`).replaceAll('{hosts}', `${hosts}`);
  return {
    ...finding,
    zoneId,
    headline: numbered(headline),
    description: numbered(description),
    evidence: { ...evidence, hosts, silent, devices: missed.slice(0, NAMED).map(({ id }) => id) },
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
