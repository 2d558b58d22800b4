/**
 * The registry: which zones and devices there are, and what a device may do.
 *
 * Guarantees: every change is committed before it is announced, and this process obeys it before the caller hears of it;
 * other processes within a message of the bus, at the latest after 5 s. A revoked device stays revoked, its id is never
 * used again.
 * Failure: refusals of the table ERRORS; `store-unavailable` passes through.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';
import { refuse, type RefusalError } from '@tocsin/protocol/refusal-error';
import type { Bus } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type {
  DeviceChange,
  DeviceQuery,
  DeviceRow,
  DeviceStore,
  HostStore,
  Standing,
  ZoneFacts,
  ZoneQuery,
  ZoneRow,
  ZoneStore,
} from '../store/ports/registry.ts';
import { openChanges, type RegistryChange, type RegistryLog } from './changes.ts';
import { createDeviceCounter } from './counter.ts';
import { createDirectory, type Directory } from './directory.ts';
import { createHostRegistry, type HostRegistry } from './hosts.ts';
import { createOriginalRegistry, type OriginalRegistry } from './original.ts';
import { KEY_FAULTS, parsePublicKey, toPem } from './public-key.ts';
import { createZoneFacts } from './zone-facts.ts';

/** A place, degrees. */
export interface Place {
  readonly latitude: number;
  readonly longitude: number;
}

/** A device to make; `publicKey` as people paste it. */
export interface DeviceRequest {
  readonly id: string;
  readonly profile: ProfileName;
  readonly zoneId: string | null;
  readonly place: Place | null;
  readonly publicKey: string;
  readonly ownerId: string | null;
  /** A simulated device; fixed with its creation. */
  readonly exercise: boolean;
}

/** What operators may change of a device; absent members stay. */
export interface DevicePatch {
  readonly zoneId?: string | null;
  readonly place?: Place | null;
  readonly publicKey?: string;
  readonly ownerId?: string | null;
  readonly standing?: Exclude<Standing, 'revoked'>;
}

/** Zones. */
export interface ZoneRegistry {
  /** Refuses `already-exists`. */
  create(zone: { readonly id: string; readonly name: string }): Promise<ZoneRow>;
  /** Refuses `not-found`. */
  get(id: string): Promise<ZoneRow>;
  list(query: ZoneQuery): Promise<ZoneRow[]>;
  /** Refuses `not-found`. */
  rename(id: string, name: string): Promise<ZoneRow>;
  /** Refuses `not-found`, and `zone-in-use` while it has devices that are not revoked. */
  remove(id: string): Promise<void>;
}

/** Devices. */
export interface DeviceRegistry {
  /**
   * Refuses `already-exists` (also for the id of a revoked device) and `schema` with a pointer. A self-reported host of this
   * id becomes the device; its standing stays.
   */
  create(device: DeviceRequest): Promise<DeviceRow>;
  /** Refuses `not-found`. */
  get(id: string): Promise<DeviceRow>;
  list(query: DeviceQuery): Promise<DeviceRow[]>;
  /** Refuses `not-found`, `device-revoked`, and `schema` with a pointer. */
  change(id: string, patch: DevicePatch): Promise<DeviceRow>;
  /** For good. Refuses `not-found`; a device revoked before is no error. */
  revoke(id: string): Promise<void>;
}

/** The registry. */
export interface Registry extends OriginalRegistry {
  readonly zones: ZoneRegistry;
  readonly devices: DeviceRegistry;
  readonly directory: Directory;
  readonly hosts: HostRegistry;
  /** Devices that somebody registered and that are not revoked, as counted at most 10 s ago. */
  registeredCount(): number;
  /** A zone's short number; null when there is no such zone. */
  zoneNumberOf(id: string): Promise<number | null>;
  zoneName(id: string): Promise<string | null>;
  /** The mean place of a zone's devices; null without any. */
  zonePlace(id: string): Promise<Place | null>;
  zoneFacts(id: string): Promise<ZoneFacts | null>;
  /** The PEM of a key in the store's form. */
  publicKeyPem(der: Buffer): string;
  close(): Promise<void>;
}

/** What {@link createRegistry} needs. */
export interface RegistryOptions {
  readonly stores: { readonly zones: ZoneStore; readonly devices: DeviceStore; readonly hosts: HostStore };
  readonly bus: Pick<Bus, 'pubsub'>;
  readonly clock: Clock;
  readonly log: RegistryLog;
  /** The most self-reported hosts of the installation. */
  readonly mostHosts: number;
  /** The most devices that the directory remembers. Default 100,000. */
  readonly maxDevices?: number;
}

function pointed(pointer: string, detail: string): RefusalError {
  return refuse('schema', undefined, [{ pointer, detail }]);
}

function parseKey(text: string): Buffer {
  const key = parsePublicKey(text);
  if ('fault' in key) throw pointed('/publicKey', KEY_FAULTS[key.fault]);
  return key.der;
}

const noZone = (): RefusalError => pointed('/zoneId', 'there is no such zone');
const noDevice = (): RefusalError => refuse('not-found', 'There is no such device');
const notThere = (): RefusalError => refuse('not-found', 'There is no such zone');

type Announce = (change: RegistryChange) => void;

function createZoneRegistry(zones: ZoneStore, clock: Clock, announce: Announce): ZoneRegistry {
  return {
    async create(zone) {
      const row = await zones.insert({ ...zone, createdAt: clock.now() });
      if (row === null) throw refuse('already-exists', 'There is a zone with this id');
      announce({ noun: 'zone', id: row.id, counts: false });
      return row;
    },
    async get(id) {
      const row = await zones.find(id);
      if (row === null) throw notThere();
      return row;
    },
    list: (query) => zones.list(query),
    async rename(id, name) {
      const row = await zones.rename(id, name);
      if (row === null) throw notThere();
      announce({ noun: 'zone', id, counts: false });
      return row;
    },
    async remove(id) {
      const outcome = await zones.remove(id);
      if (outcome === 'unknown') throw notThere();
      if (outcome === 'in-use')
        throw refuse('zone-in-use', 'Devices still belong to the zone; move or revoke them first');
      announce({ noun: 'zone', id, counts: false });
    },
  };
}

function toChange(patch: DevicePatch): DeviceChange {
  const { publicKey, ...rest } = patch;
  return publicKey === undefined ? rest : { ...rest, publicKey: parseKey(publicKey) };
}

function createDeviceRegistry(devices: DeviceStore, clock: Clock, announce: Announce): DeviceRegistry {
  return {
    async create(request) {
      const { id, profile, zoneId, place, ownerId, exercise } = request;
      const publicKey = parseKey(request.publicKey);
      const { latitude, longitude } = place ?? { latitude: null, longitude: null };
      const made = {
        id,
        profile,
        zoneId,
        latitude,
        longitude,
        publicKey,
        ownerId,
        standing: 'active',
        exercise,
        createdAt: clock.now(),
      } as const;
      const written = await devices.insert(made);
      if (written.outcome === 'zone-unknown') throw noZone();
      if (written.outcome !== 'written')
        throw refuse('already-exists', 'The id is in use, or was used by a device that is revoked');
      announce({ noun: 'device', id, counts: true });
      return written.row;
    },
    async get(id) {
      const row = await devices.find(id);
      if (row === null) throw noDevice();
      return row;
    },
    list: (query) => devices.list(query),
    async change(id, patch) {
      const written = await devices.update(id, toChange(patch), clock.now());
      if (written.outcome === 'zone-unknown') throw noZone();
      if (written.outcome === 'revoked') throw refuse('device-revoked', 'The device is revoked, for good');
      if (written.outcome !== 'written') throw noDevice();
      // A key makes a registered device of a host that nobody registered.
      announce({ noun: 'device', id, counts: patch.publicKey !== undefined });
      return written.row;
    },
    async revoke(id) {
      if (!(await devices.revoke(id, clock.now()))) throw noDevice();
      announce({ noun: 'device', id, counts: true });
    },
  };
}

/** Builds the registry: subscribes to the bus and counts the devices. Rejects when the store is away. */
export async function createRegistry(options: RegistryOptions): Promise<Registry> {
  const { stores, bus, clock, log } = options;
  const directory = createDirectory({
    devices: stores.devices,
    clock,
    ...(options.maxDevices === undefined ? {} : { maxDevices: options.maxDevices }),
  });
  const facts = createZoneFacts(stores.zones, clock);
  const counter = createDeviceCounter(() => stores.devices.countRegistered(), clock);
  const heard = (change: RegistryChange): void => {
    if (change.noun === 'hosts') {
      for (const id of change.ids) directory.appeared(id);
      return;
    }
    // A device may have left a zone that the message does not name: its mean place is read anew everywhere.
    if (change.noun === 'device') {
      directory.invalidate(change.id);
      facts.invalidateAll();
    } else {
      facts.invalidate(change.id);
      // Devices carry their zone's number; a zone that went took only revoked devices along.
    }
    if (change.counts) counter.renew();
  };
  const changes = await openChanges(bus.pubsub, heard, log);
  await counter.load();
  return {
    zones: createZoneRegistry(stores.zones, clock, changes.announce),
    devices: createDeviceRegistry(stores.devices, clock, changes.announce),
    directory,
    hosts: createHostRegistry({
      hosts: stores.hosts,
      directory,
      clock,
      most: options.mostHosts,
      announce: (ids) => changes.announce({ noun: 'hosts', ids }),
    }),
    ...createOriginalRegistry({ ...stores, clock, announce: changes.announce }),
    registeredCount: counter.read,
    zoneNumberOf: async (id) => (await facts.facts(id))?.number ?? null,
    zoneName: async (id) => (await facts.facts(id))?.name ?? null,
    zonePlace: async (id) => (await facts.facts(id))?.place ?? null,
    zoneFacts: facts.facts,
    publicKeyPem: toPem,
    async close() {
      counter.stop();
      await changes.close();
    },
  };
}
