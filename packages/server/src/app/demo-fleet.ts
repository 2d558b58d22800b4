/**
 * The fleet of `serve --demo`: its devices and keys, kept in `DATA_DIR/demo-fleet.json` (0600), so that the next start
 * finds the same devices registered. A lost file makes a new generation with other ids, for ids are never used again.
 */
import { randomBytes } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { placeBeside, type Place, placeWithin } from '@tocsin/device/simulate/earthquake';
import { type Network, type NetworkDevice, type NetworkZone, newDevice } from '@tocsin/device/simulate/network';
import { FleetError, type Operator } from '@tocsin/device/simulate/operator';
import { createRandom } from '@tocsin/device/simulate/random';

/** Where the fleet is kept in DATA_DIR. */
export const DEMO_FILE = 'demo-fleet.json';

/** Zones of stations around Acapulco: name, km north and east of it, stations with triggers, with waveforms, radius in km. */
const ZONES = [
  { name: 'Demo Acapulco', north: 0, east: 0, triggers: 36, waveforms: 24, radius: 20 },
  { name: 'Demo Chilpancingo', north: 75, east: 42, triggers: 8, waveforms: 0, radius: 12 },
  { name: 'Demo Costa Chica', north: -30, east: 75, triggers: 8, waveforms: 0, radius: 12 },
] as const;
const HOSTS = { name: 'Demo hosts', count: 20 } as const;
/** Acapulco: 16.86 N, 99.88 W. */
const HOME: Place = { latitude: 16.86, longitude: -99.88 };
const GENERATION = /^[0-9a-f]{6}$/;

/** A new generation: new ids, new keys. */
export function newDemoNetwork(): Network {
  const prefix = `demo-${randomBytes(3).toString('hex')}`;
  const random = createRandom('demo places');
  const zones: NetworkZone[] = [];
  const devices: NetworkDevice[] = [];
  const add = (profile: 'seismic' | 'host', zone: NetworkZone, place: Place, waveform: boolean): void => {
    devices.push(newDevice(`${prefix}-${devices.length}`, profile, zone.id, place, waveform));
  };
  for (const { name, north, east, triggers, waveforms, radius } of ZONES) {
    const place = placeBeside(HOME, north, east);
    const zone = { id: `${prefix}-zone-${zones.length}`, name, place };
    zones.push(zone);
    for (let i = 0; i < triggers + waveforms; i += 1)
      add('seismic', zone, placeWithin(place, radius, random), i < waveforms);
  }
  const hall = { id: `${prefix}-hosts`, name: HOSTS.name, place: HOME };
  for (let i = 0; i < HOSTS.count; i += 1) add('host', hall, HOME, false);
  return { zones: [...zones, hall], devices };
}

/** What {@link openDemoNetwork} needs. */
export interface DemoGround {
  readonly dataDir: string;
  readonly operator: Operator;
  readonly warn: (fields: object, message: string) => void;
}

/** The network of this installation, registered: the one of the file, or a new one that is kept there. */
export async function openDemoNetwork({ dataDir, operator, warn }: DemoGround): Promise<Network> {
  const file = join(dataDir, DEMO_FILE);
  const kept = await readNetwork(file, warn);
  if (kept !== null && (await register(operator, kept))) return kept;
  if (kept !== null) warn({ file }, 'demo: devices of the last start are gone or others; a new generation is made');
  const fresh = newDemoNetwork();
  const aside = `${file}.${randomBytes(4).toString('hex')}`;
  await writeFile(aside, JSON.stringify(fresh), { mode: 0o600, flag: 'wx' });
  await rename(aside, file);
  if (!(await register(operator, fresh)))
    throw new FleetError('server-refused', 'the devices of the demo exist already');
  return fresh;
}

async function readNetwork(file: string, warn: DemoGround['warn']): Promise<Network | null> {
  try {
    const network = JSON.parse(await readFile(file, 'utf8')) as Network;
    if (isNetwork(network)) return network;
    warn({ file }, 'demo: the file holds no fleet; a new one is made');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT'))
      warn({ file }, 'demo: the file cannot be read; a new fleet is made');
  }
  return null;
}

function isNetwork(value: Partial<Network> | null): value is Network {
  const { zones, devices } = value ?? {};
  if (!Array.isArray(zones) || !Array.isArray(devices) || devices.length === 0) return false;
  const ours = ({ id }: { readonly id?: unknown }): boolean =>
    typeof id === 'string' && id.startsWith('demo-') && GENERATION.test(id.slice(5, 11));
  const whole = (device: Partial<NetworkDevice>): boolean =>
    ours(device) && typeof device.privateKeyPem === 'string' && typeof device.publicKeyPem === 'string';
  return zones.every(ours) && devices.every(whole);
}

/** Registers what is not there yet; false when a device is there but is another one, or may not speak any more. */
async function register(operator: Operator, { zones, devices }: Network): Promise<boolean> {
  for (const { id, name } of zones) await operator.expect([201, 409], 'POST', '/v1/zones', { id, name });
  for (const { id, profile, zoneId, latitude, longitude, publicKeyPem: publicKey } of devices) {
    const body = { id, profile, zoneId, latitude, longitude, publicKey, exercise: true };
    const { status } = await operator.expect([201, 409], 'POST', '/v1/devices', body);
    if (status === 201) continue;
    const { body: known } = await operator.expect([200], 'GET', `/v1/devices/${id}`);
    const same = known?.['exercise'] === true && known['standing'] === 'active';
    if (!same || String(known['publicKey']).trim() !== publicKey.trim()) return false;
  }
  return true;
}
