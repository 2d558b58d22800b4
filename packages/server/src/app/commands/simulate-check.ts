/** What the server knows of a fleet after its run: readings stored, alerts raised. */
import type { FleetReport } from '@tocsin/device/simulate/fleet-report';
import { type Network, storedReadings } from '@tocsin/device/simulate/network';
import type { Operator } from '@tocsin/device/simulate/operator';
import type { FoundAlert, ServerSide } from './simulate-summary.ts';

/** Accepted readings show within a second; a loaded machine may need more. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 200;
const MOST_ALERTS = 5000;
const PAGE = 500;

/** Asks until what is stored is what was accepted, for at most 10 s. Rejects with a FleetError. */
export async function askServer(operator: Operator, network: Network, report: FleetReport): Promise<ServerSide> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const stored = await storedReadings(operator, network);
    if (stored >= report.acceptedReadings || performance.now() > until) {
      return { stored, alerts: await alertsOf(operator, network, report.startedAt) };
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Alerts since `since` in the network's zones or of its devices. */
async function alertsOf(operator: Operator, { zones, devices }: Network, since: number): Promise<FoundAlert[]> {
  const ours = new Set([...zones, ...devices].map(({ id }) => id));
  const found: FoundAlert[] = [];
  let cursor: string | null = null;
  let read = 0;
  do {
    const query = new URLSearchParams({
      since: String(since),
      limit: String(PAGE),
      ...(cursor === null ? {} : { cursor }),
    });
    const { body } = await operator.expect([200], 'GET', `/v1/alerts?${query.toString()}`);
    const items = (body?.['items'] ?? []) as Readonly<Record<string, unknown>>[];
    for (const { kind, status, onset, sentAt, zoneId, deviceId } of items) {
      if (!ours.has(String(zoneId)) && !ours.has(String(deviceId))) continue;
      found.push({ kind: String(kind), status: String(status), afterMs: Number(sentAt) - Number(onset) });
    }
    read += items.length;
    cursor = (body?.['next'] as string | null | undefined) ?? null;
  } while (cursor !== null && read < MOST_ALERTS);
  return found;
}
