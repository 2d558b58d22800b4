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

/** Something that reports. `publicKey` is DER SubjectPublicKeyInfo of a P-256 key. */
export interface DeviceRow {
  readonly id: string;
  readonly number: number;
  readonly profile: ProfileName;
  readonly zoneId: string | null;
  readonly zoneNumber: number | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly publicKey: Buffer;
  readonly ownerId: string | null;
  readonly standing: Standing;
  readonly createdAt: number;
  readonly updatedAt: number;
}
