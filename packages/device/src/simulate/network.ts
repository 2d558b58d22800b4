/**
 * Networks of simulated devices: where they stand, made on a server and removed again. All of them are registered with
 * `exercise`, so that nothing they tell can be taken for real.
 */
import { createKey, publicKeyPem } from '../key.ts';
import { type Place, placeBeside, placeWithin } from './earthquake.ts';
import type { FleetDevice } from './fleet.ts';
import { FleetError, type Operator } from './operator.ts';
import type { Random } from './random.ts';

/** A zone to make. */
export interface NetworkZone {
  readonly id: string;
  readonly name: string;
  readonly place: Place;
}

/** A device with its zone and the public half of its key. */
export interface NetworkDevice extends FleetDevice {
  readonly zoneId: string;
  readonly publicKeyPem: string;
}

/** Zones and the devices in them. */
export interface Network {
  readonly zones: readonly NetworkZone[];
  readonly devices: readonly NetworkDevice[];
}

/** What a network is to be like. */
export interface NetworkShape {
  /** Ids begin with it: `<prefix>-<n>`, `<prefix>-zone-<n>`, `<prefix>-hosts`. */
  readonly prefix: string;
  /** Names of zones begin with it. */
  readonly name: string;
  readonly seismic: number;
  readonly hosts: number;
  /** Zones of seismic stations. */
  readonly zones: number;
  /** Seismic stations send waveforms. */
  readonly waveform: boolean;
}

/** The coast of Guerrero, Mexico: subduction, and a network of cheap sensors that is real (OpenEEW). */
const HOME: Place = { latitude: 17.1, longitude: -99.8 };
const ZONE_APART_KM = 55;
const ZONE_RADIUS_KM = 22;
const ZONES_IN_A_ROW = 5;
const AT_ONCE = 8;

/** A device with a new key. */
export function newDevice(
  id: string,
  profile: 'seismic' | 'host',
  zoneId: string,
  place: Place,
  waveform: boolean,
): NetworkDevice {
  const key = createKey();
  return {
    id,
    profile,
    zoneId,
    waveform,
    latitude: place.latitude,
    longitude: place.longitude,
    privateKeyPem: String(key.export({ type: 'pkcs8', format: 'pem' })),
    publicKeyPem: publicKeyPem(key),
  };
}

/** Plans a network; keys are made here, places come from `random`. */
export function planNetwork(shape: NetworkShape, random: Random): Network {
  const { prefix, name, seismic, hosts, waveform } = shape;
  const zones = Array.from({ length: seismic === 0 ? 0 : shape.zones }, (_, i): NetworkZone => {
    const place = placeBeside(
      HOME,
      Math.floor(i / ZONES_IN_A_ROW) * ZONE_APART_KM,
      (i % ZONES_IN_A_ROW) * ZONE_APART_KM,
    );
    return { id: `${prefix}-zone-${i}`, name: `${name} ${i + 1}`, place };
  });
  const halls = hosts === 0 ? [] : [{ id: `${prefix}-hosts`, name: `${name} hosts`, place: HOME }];
  const stations = Array.from({ length: seismic }, (_, i) => {
    const zone = zones[i % zones.length];
    const place = placeWithin(zone?.place ?? HOME, ZONE_RADIUS_KM, random);
    return newDevice(`${prefix}-${i}`, 'seismic', zone?.id ?? '', place, waveform);
  });
  const machines = Array.from({ length: hosts }, (_, i) =>
    newDevice(`${prefix}-${seismic + i}`, 'host', `${prefix}-hosts`, HOME, false),
  );
  return { zones: [...zones, ...halls], devices: [...stations, ...machines] };
}

/** What is said while a network is made or removed. */
export type NetworkProgress = (done: number, of: number) => void;

/**
 * Makes what is not there yet. An id that belongs to a device that was revoked is refused: it is never used again.
 * `signal` ends it between two devices.
 */
export async function registerNetwork(
  operator: Operator,
  { zones, devices }: Network,
  onProgress: NetworkProgress = () => undefined,
  signal?: AbortSignal,
): Promise<void> {
  for (const { id, name } of zones) await operator.expect([201, 409], 'POST', '/v1/zones', { id, name });
  await eachOf(
    devices,
    onProgress,
    signal,
    async ({ id, profile, zoneId, latitude, longitude, publicKeyPem: publicKey }) => {
      const body = { id, profile, zoneId, latitude, longitude, publicKey, exercise: true };
      await operator.expect([201], 'POST', '/v1/devices', body);
    },
  );
}

/** Revokes the devices and deletes the zones; what is not there is passed over. Rejects with the first failure. */
export async function removeNetwork(
  operator: Operator,
  { zones, devices }: Network,
  onProgress: NetworkProgress = () => undefined,
): Promise<void> {
  await eachOf(devices, onProgress, undefined, async ({ id }) => {
    await operator.expect([204, 404], 'DELETE', `/v1/devices/${id}`);
  });
  for (const { id } of zones) await operator.expect([204, 404], 'DELETE', `/v1/zones/${id}`);
}

/** The readings that the server has of the network's zones. */
export async function storedReadings(operator: Operator, { zones }: Network): Promise<number> {
  let sum = 0;
  for (const { id } of zones) {
    const { body } = await operator.expect([200], 'GET', `/v1/zones/${id}/statistics`);
    const count = body?.['count'];
    if (typeof count !== 'number') throw new FleetError('server-refused', 'the statistics of a zone have no count');
    sum += count;
  }
  return sum;
}

/** Works on some at once; the first failure ends all of it. */
async function eachOf<Item>(
  items: readonly Item[],
  onProgress: NetworkProgress,
  signal: AbortSignal | undefined,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let [next, done, failed] = [0, 0, false];
  const line = async (): Promise<void> => {
    for (let item = items[next]; item !== undefined && !failed && signal?.aborted !== true; item = items[next]) {
      next += 1;
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
      done += 1;
      onProgress(done, items.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, line));
}
