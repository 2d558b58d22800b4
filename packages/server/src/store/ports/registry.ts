/** Zones and devices as the store keeps them. Times are Unix ms. */
import type { ProfileName } from '@tocsin/protocol/envelope';

/** What a device may do: only `active` ones are heard. */
export type Standing = 'active' | 'inactive' | 'quarantined' | 'blocked' | 'revoked';

/** A named area. `number` is its short form in readings. */
export interface ZoneRow {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly createdAt: number;
}

/**
 * Something that reports. `publicKey` is DER SubjectPublicKeyInfo of a P-256 key; null: a self-reported host, which nobody
 * registered and which cannot sign. `exercise`: a simulated device, from its
 * creation on and for good; what it tells makes exercises only.
 */
export interface DeviceRow {
  readonly id: string;
  readonly number: number;
  readonly profile: ProfileName;
  readonly zoneId: string | null;
  readonly zoneNumber: number | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly publicKey: Buffer | null;
  readonly ownerId: string | null;
  readonly standing: Standing;
  readonly exercise: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** What a query of zones may narrow down. Newest first, after the zone with the number `before`. */
export interface ZoneQuery {
  readonly before: number | null;
  readonly limit: number;
}

/** What became of a zone to delete. */
export type ZoneRemoval = 'removed' | 'unknown' | 'in-use';

/**
 * What alerts and workers want to know of a zone; the place is the mean of its devices that are not revoked. Exercise
 * devices count only in a zone that has no others with a place: they move no real alert.
 */
export interface ZoneFacts {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly place: { readonly latitude: number; readonly longitude: number } | null;
}

/** Zones. */
export interface ZoneStore {
  /** Null when the id is in use. */
  insert(zone: Pick<ZoneRow, 'id' | 'name' | 'createdAt'>): Promise<ZoneRow | null>;
  find(id: string): Promise<ZoneRow | null>;
  list(query: ZoneQuery): Promise<ZoneRow[]>;
  /** Null when there is no such zone. */
  rename(id: string, name: string): Promise<ZoneRow | null>;
  /** Deletes a zone without devices; revoked ones are let go of. */
  remove(id: string): Promise<ZoneRemoval>;
  facts(id: string): Promise<ZoneFacts | null>;
  /** The zone of the original client with this name, made when there is none (id `z<n>`); serialised in the store. */
  findOrInsertOriginal(name: string, createdAt: number): Promise<{ readonly row: ZoneRow; readonly created: boolean }>;
  /** Zones whose id is `z<n>`, by number. */
  listOriginal(limit: number): Promise<ZoneRow[]>;
}

/** A device to make. */
export interface DeviceInsert extends Omit<DeviceRow, 'number' | 'zoneNumber' | 'updatedAt' | 'publicKey'> {
  readonly publicKey: Buffer;
}

/** What may change of a device; absent members stay. */
export interface DeviceChange {
  readonly zoneId?: string | null;
  readonly place?: { readonly latitude: number; readonly longitude: number } | null;
  readonly publicKey?: Buffer;
  readonly ownerId?: string | null;
  readonly standing?: Standing;
}

/** A circle or a box; degrees and metres. West > east crosses the antimeridian. */
export type DeviceArea =
  | { readonly kind: 'near'; readonly latitude: number; readonly longitude: number; readonly radius: number }
  | {
      readonly kind: 'box';
      readonly west: number;
      readonly south: number;
      readonly east: number;
      readonly north: number;
    };

/** What a query of devices may narrow down. Newest first, after the device with the number `before`. */
export interface DeviceQuery {
  readonly zoneId: string | null;
  readonly profile: ProfileName | null;
  /** Null: every standing but `revoked`. */
  readonly standing: Standing | null;
  /** False: self-reported hosts only. */
  readonly registered: boolean | null;
  readonly area: DeviceArea | null;
  readonly before: number | null;
  readonly limit: number;
}

/** What became of a device to write. */
export type DeviceWrite =
  | { readonly outcome: 'written'; readonly row: DeviceRow }
  | { readonly outcome: 'exists' | 'unknown' | 'revoked' | 'zone-unknown' };

/** What became of a device of the original client. */
export type OriginalDeviceWrite =
  | { readonly outcome: 'created' | 'found'; readonly row: DeviceRow }
  | { readonly outcome: 'zone-unknown' };

/** Devices. */
export interface DeviceStore {
  /**
   * `exists` for any id that was ever in use, revoked ones too; but a self-reported host that is not revoked becomes this
   * device (its standing stays; its number and `createdAt`, too, unless the profile is another one).
   */
  insert(device: DeviceInsert): Promise<DeviceWrite>;
  find(id: string): Promise<DeviceRow | null>;
  /** What ingest may hear; hosts that are about to be forgotten are not among them. */
  findMany(ids: readonly string[]): Promise<DeviceRow[]>;
  list(query: DeviceQuery): Promise<DeviceRow[]>;
  /** Changes a device that is not revoked. */
  update(id: string, change: DeviceChange, updatedAt: number): Promise<DeviceWrite>;
  /** Revokes a device, for good; true when there is one (revoked before or now). */
  revoke(id: string, updatedAt: number): Promise<boolean>;
  /** Devices that somebody registered and that are not revoked. */
  countRegistered(): Promise<number>;
  /**
   * The device of the original client with this key, made when there is none (id `m<n>`); serialised in the store. An
   * exercise device is none of them, whatever its id and key: a real sensor must not be taken for a simulated one.
   */
  findOrInsertOriginal(device: Omit<DeviceInsert, 'id'>): Promise<OriginalDeviceWrite>;
  /** Registered devices whose id is `m<n>`, revoked ones not, by number. */
  listOriginal(limit: number): Promise<DeviceRow[]>;
}

/** What became of ids that were to be enrolled. */
export interface Enrolment {
  /** Ids that have a row since now, or again one that ingest finds. */
  readonly made: readonly string[];
  /** False: some have no row, because there are as many self-reported hosts as there may be. */
  readonly room: boolean;
}

/** Self-reported hosts: rows of devices without a key. */
export interface HostStore {
  /**
   * Makes rows of profile `host` for the ids that have none, as long as there are fewer than `most` self-reported ones
   * (revoked ones count); serialised in the store, so that the bound holds for all instances together. Rows that are there
   * stay as they are, but one that was about to be forgotten is taken back.
   */
  enrol(ids: readonly string[], createdAt: number, most: number): Promise<Enrolment>;
  /**
   * Looks at the next `portion` rows with a number over `after`, and marks as leaving (at `at`) those of which no reading is
   * left, which nobody touched since `before` and of which no operator ever said anything: they have no zone, place or owner
   * and are active. Answers the last number it looked at; null: there were no more.
   */
  markIdle(after: number, portion: number, before: number, at: number): Promise<number | null>;
  /**
   * Deletes at most `most` rows that are leaving since before `left`, as long as there is still no reading; one that has
   * any stays. Answers how many it looked at.
   */
  forget(left: number, most: number, at: number): Promise<number>;
  /** Deletes at most `most` rows of rollups of numbers forgotten before `before`. Answers 0 when there was nothing to do. */
  purge(before: number, most: number): Promise<number>;
}
