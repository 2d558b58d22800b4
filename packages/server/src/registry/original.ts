/**
 * Zones and devices as the original seismic client knows them: integers, which map to zone `z<int>` and device `m<int>`.
 * Any zone or device with such an id counts, however it was made. An existing city or key answers with the existing
 * object; the store serialises the making, so two clients at once get one object.
 */
import { refuse } from '@tocsin/protocol/refusal-error';
import type { Clock } from '../lib/clock.ts';
import type { DeviceRow, DeviceStore, ZoneRow, ZoneStore } from '../store/ports/registry.ts';
import type { RegistryChange } from './changes.ts';
import { KEY_FAULTS, parsePublicKey } from './public-key.ts';

/** The most objects of a list, which has no pages. */
export const ORIGINAL_LIST_MOST = 10_000;

/** A zone of the original client. */
export interface OriginalZone {
  readonly id: number;
  readonly city: string;
}

/** A device ("misurator") of the original client. */
export interface OriginalDevice {
  readonly id: number;
  readonly active: boolean;
  readonly zoneId: number | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
}

/** What the original client sends to register a device. */
export interface OriginalDeviceRequest {
  readonly active: boolean;
  readonly zoneId: number;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly publicKeyHex: string;
}

/** The service. */
export interface OriginalRegistry {
  createOrFindOriginalZone(city: string): Promise<{ readonly zone: OriginalZone; readonly created: boolean }>;
  /** Refuses `schema` for a key (pointer /public_key_hex) or a zone (pointer /zone_id) that is none. */
  createOrFindOriginalDevice(
    request: OriginalDeviceRequest,
  ): Promise<{ readonly device: OriginalDevice; readonly created: boolean }>;
  /** By number, at most {@link ORIGINAL_LIST_MOST}. */
  listOriginalZones(): Promise<OriginalZone[]>;
  /** By number, at most {@link ORIGINAL_LIST_MOST}; revoked ones not. */
  listOriginalDevices(): Promise<OriginalDevice[]>;
}

/** The integer of an id of the form `<letter><int>`; null for another. Pure. */
export function originalNumber(letter: 'z' | 'm', id: string): number | null {
  return id[0] === letter && /^[1-9][0-9]{0,14}$/.test(id.slice(1)) ? Number(id.slice(1)) : null;
}

function toZone(row: ZoneRow): OriginalZone {
  return { id: originalNumber('z', row.id) ?? 0, city: row.name };
}

function toDevice(row: DeviceRow): OriginalDevice {
  return {
    id: originalNumber('m', row.id) ?? 0,
    active: row.standing === 'active',
    zoneId: row.zoneId === null ? null : originalNumber('z', row.zoneId),
    latitude: row.latitude,
    longitude: row.longitude,
  };
}

/** What {@link createOriginalRegistry} needs. */
export interface OriginalRegistryOptions {
  readonly zones: ZoneStore;
  readonly devices: DeviceStore;
  readonly clock: Clock;
  readonly announce: (change: RegistryChange) => void;
}

/** Builds the service. */
export function createOriginalRegistry(options: OriginalRegistryOptions): OriginalRegistry {
  const { zones, devices, clock, announce } = options;
  return {
    async createOrFindOriginalZone(city) {
      const { row, created } = await zones.findOrInsertOriginal(city, clock.now());
      if (created) announce({ noun: 'zone', id: row.id, counts: false });
      return { zone: toZone(row), created };
    },
    async createOrFindOriginalDevice(request) {
      const key = parsePublicKey(request.publicKeyHex);
      if ('fault' in key)
        throw refuse('schema', undefined, [{ pointer: '/public_key_hex', detail: KEY_FAULTS[key.fault] }]);
      const now = clock.now();
      const written = await devices.findOrInsertOriginal({
        profile: 'seismic',
        zoneId: `z${request.zoneId}`,
        latitude: request.latitude,
        longitude: request.longitude,
        publicKey: key.der,
        ownerId: null,
        standing: request.active ? 'active' : 'inactive',
        exercise: false,
        createdAt: now,
      });
      if (written.outcome === 'zone-unknown')
        throw refuse('schema', undefined, [{ pointer: '/zone_id', detail: 'there is no such zone' }]);
      if (written.outcome === 'created') announce({ noun: 'device', id: written.row.id, counts: true });
      return { device: toDevice(written.row), created: written.outcome === 'created' };
    },
    listOriginalZones: async () => (await zones.listOriginal(ORIGINAL_LIST_MOST)).map(toZone),
    listOriginalDevices: async () => (await devices.listOriginal(ORIGINAL_LIST_MOST)).map(toDevice),
  };
}
