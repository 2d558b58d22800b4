/** Alerts as benchmarks raise them: real ones, signed, of some 900 bytes, that say when they were due. */
import { generateKeyPairSync } from 'node:crypto';
import type { AlertFinding } from '@tocsin/protocol/finding';
import { fingerprint } from '@tocsin/server/alerts/fingerprint';
import { firstRevision } from '@tocsin/server/alerts/revision';
import { signAlert, type Signer } from '@tocsin/server/alerts/sign';
import { createIdFactory } from '@tocsin/server/lib/ulid';

/** A key of its own; nobody verifies here. */
export function newSigner(): Signer {
  return { kid: 'bench', privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey };
}

const ids = createIdFactory();
let serial = 0;

/** A finding whose headline says when it was due (ms of the monotonic clock). */
export function findingDue(due: number): AlertFinding {
  const now = Date.now();
  serial += 1;
  return {
    kind: 'host.cpu',
    severity: 'severe',
    status: 'actual',
    headline: `bench ${due.toFixed(3)}`,
    description: 'The processor of a host is above its threshold. '.repeat(4).trim(),
    zoneId: null,
    deviceId: `host-${serial % 1000}`,
    latitude: 42.35,
    longitude: 13.4,
    onset: now,
    fingerprint: fingerprint('host.cpu', `${process.pid}:${serial}`, now),
    evidence: { value: 97.25, threshold: 90, device: `host-${serial % 1000}`, seconds: 30 },
  };
}

/** The same as an alert at a place in a channel, as JSON. */
export function alertText(offset: number, due: number, signer: Signer): string {
  const now = Date.now();
  return JSON.stringify(signAlert({ ...firstRevision(ids(now), findingDue(due), now), offset }, signer));
}
