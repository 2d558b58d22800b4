/** Registered fleets: zones and devices made over HTTP by an operator, as a user would. */
import { Agent } from 'node:http';
import { call, createDevice, type ScriptedDevice } from './device.ts';

/** What to make. Zones are called `<name>-<n>`, devices `<zone>-<n>`. */
export interface FleetShape {
  readonly name: string;
  readonly zones: number;
  readonly perZone: number;
}

/** Makes zones and devices; answers the devices by zone. Rejects at the first answer that is not 201. */
export async function registerFleet(
  base: string,
  token: string,
  { name, zones, perZone }: FleetShape,
): Promise<ScriptedDevice[][]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const create = async (path: string, body: unknown): Promise<void> => {
    const answer = await call(base + path, { method: 'POST', headers, body: JSON.stringify(body), agent });
    if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  };
  const fleet: ScriptedDevice[][] = [];
  for (let zone = 0; zone < zones; zone += 1) {
    const zoneId = `${name}-${zone}`;
    await create('/v1/zones', { id: zoneId, name: zoneId });
    const devices = Array.from({ length: perZone }, (_, i) => createDevice(`${zoneId}-${i}`));
    await Promise.all(
      devices.map(({ id, publicKeyPem }, i) =>
        create('/v1/devices', {
          id,
          profile: 'seismic',
          zoneId,
          publicKey: publicKeyPem,
          latitude: 19 + i / 1000,
          longitude: -99,
        }),
      ),
    );
    fleet.push(devices);
  }
  agent.destroy();
  return fleet;
}
