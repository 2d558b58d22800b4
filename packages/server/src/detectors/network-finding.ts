/** How an earthquake is told: the finding of a network's event. */
import type { Severity } from '@tocsin/protocol/alert';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Finding } from './detector.ts';
import { intensityOf, type Magnitude } from './magnitude.ts';
import type { NetworkEvent } from './network-state.ts';

/** Stations that evidence names at most. */
const MOST_NAMED = 100;

/** The finding; its onset never changes, so its fingerprint does not either. */
export function eventFinding(event: NetworkEvent, severity: Severity, magnitude: Magnitude | null): Finding {
  const { members, latitude, longitude, lane } = event;
  const strength =
    magnitude === null
      ? 'of unknown magnitude'
      : `magnitude ${magnitude.value} ± ${magnitude.uncertainty} (${magnitude.name})`;
  const peak = members.reduce((most, member) => Math.max(most, member.peak), 0);
  return {
    kind: 'seismic.event',
    severity,
    status: 'actual',
    headline: `Earthquake, ${strength}, felt by ${members.length} stations`,
    description:
      `${members.length} stations felt an earthquake, ${strength}, near ${latitude.toFixed(2)}, ${longitude.toFixed(2)}. ` +
      `Strongest shaking ${Number(peak.toPrecision(3))} m/s², intensity ${Math.round(intensityOf(peak))}. Place and magnitude are first estimates.`,
    zoneId: null,
    deviceId: null,
    latitude: round(latitude),
    longitude: round(longitude),
    onset: event.onset,
    evidence: {
      stations: members.length,
      lane,
      origin: Math.round(event.origin),
      magnitude: magnitude?.value ?? null,
      magnitudeUncertainty: magnitude?.uncertainty ?? null,
      peak,
      picks: members
        .slice(0, MOST_NAMED)
        .map(({ deviceId, at, phase, peak: amplitude }) => ({ deviceId, at, phase, amplitude })),
      envelopes: members
        .slice(0, LIMITS.evidenceEnvelopes.value)
        .map(({ deviceId, envelopeId }) => ({ deviceId, envelopeId })),
    },
  };
}

function round(degrees: number): number {
  return Math.round(degrees * 1000) / 1000;
}
