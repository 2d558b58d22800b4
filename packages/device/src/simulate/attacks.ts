/**
 * Attackers: envelopes that a server must refuse, each with the answers that it may give. What is broken is exactly one
 * thing, the rest is right, so that the answer shows which check has seen it.
 */
import { type KeyObject, sign } from 'node:crypto';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Attack } from './fleet.ts';
import type { Random } from './random.ts';

/** The device in whose name an attacker speaks. */
export interface Impersonated {
  readonly id: string;
  readonly profile: 'seismic' | 'host';
  readonly key: KeyObject;
  /** A reading that would be right. */
  reading(at: number): object;
}

/** An envelope that was accepted a moment ago. */
export interface Recorded {
  readonly device: Impersonated;
  readonly id: string;
  readonly body: string;
}

/** A request of an attacker. `expects`: the answers that are right, as `409 replay`. */
export interface AttackRequest {
  readonly kind: Attack;
  readonly body: string;
  readonly contentType?: string;
  readonly apiKey?: string;
  readonly expects: readonly string[];
}

/** What attacks are made from. */
export interface AttackMaterial {
  readonly device: Impersonated;
  /** Of the attacker. */
  readonly foreignKey: KeyObject;
  /** Something that was accepted, when anything was. */
  readonly recorded: Recorded | null;
  /** Unix ms. */
  readonly now: number;
  readonly id: string;
  readonly random: Random;
}

type Builder = (material: AttackMaterial) => Omit<AttackRequest, 'kind'> | null;

const JWS = '400 malformed-jws';
const SCHEMA = '422 schema';
const STALE_MS = 600_000;
const OTHER_MS = 5000;

const base64url = (text: string): string => Buffer.from(text).toString('base64url');

/** Signs any header and payload, however wrong. */
function seal(key: KeyObject, header: object, payload: string): string {
  const signed = `${base64url(JSON.stringify(header))}.${base64url(payload)}`;
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

const headerOf = ({ id }: Impersonated): object => ({ alg: 'ES256', kid: id });

/** The payload of an envelope that would be right, but for `change`. */
function payloadOf({ device, now, id }: AttackMaterial, change: object = {}): string {
  return JSON.stringify({ id, at: now, profile: device.profile, readings: [device.reading(now)], ...change });
}

function genuine(material: AttackMaterial, change: object = {}): string {
  return seal(material.device.key, headerOf(material.device), payloadOf(material, change));
}

/** Builders of `replay`: byte for byte, and the same id with other content. Null until something was accepted. */
const REPLAY: readonly Builder[] = [
  // Whoever is late with it is refused for the time instead.
  ({ recorded }) => recorded && { body: recorded.body, expects: ['409 replay', '403 envelope-stale'] },
  ({ recorded, now }) => {
    if (recorded === null) return null;
    const { device, id } = recorded;
    const readings = [device.reading(now - OTHER_MS)];
    const payload = JSON.stringify({ id, at: now, profile: device.profile, readings });
    return { body: seal(device.key, headerOf(device), payload), expects: ['409 id-conflict'] };
  },
];

const FORGED: readonly Builder[] = [
  (material) => ({
    body: seal(material.foreignKey, headerOf(material.device), payloadOf(material)),
    expects: ['401 signature-invalid'],
  }),
  (material) => ({ body: flipped(genuine(material), material.random), expects: ['401 signature-invalid'] }),
  // The signature of one envelope under another.
  (material) => {
    const [header, , signature] = genuine(material).split('.');
    const payload = base64url(payloadOf(material, { readings: [material.device.reading(material.now - OTHER_MS)] }));
    return { body: `${header}.${payload}.${signature}`, expects: ['401 signature-invalid'] };
  },
  (material) => ({ body: genuine(material), apiKey: 'no-such-key', expects: ['401 api-key-unknown'] }),
  (material) => ({
    body: seal(material.foreignKey, { alg: 'ES256', kid: `${material.id}-x` }, payloadOf(material)),
    expects: ['403 device-unknown'],
  }),
];

/** One bit of the signature is another. */
function flipped(body: string, random: Random): string {
  const end = body.lastIndexOf('.');
  const signature = Buffer.from(body.slice(end + 1), 'base64url');
  const place = random.integer(signature.length);
  signature[place] = (signature[place] ?? 0) ^ (1 << random.integer(8));
  return `${body.slice(0, end + 1)}${signature.toString('base64url')}`;
}

const STALE: readonly Builder[] = [
  (material) => {
    const at = material.now - STALE_MS;
    return {
      body: genuine(material, { at, readings: [material.device.reading(at)] }),
      expects: ['403 envelope-stale'],
    };
  },
  // Its readings are of now: readings that lie ahead would be the schema's.
  (material) => ({ body: genuine(material, { at: material.now + STALE_MS }), expects: ['403 envelope-future'] }),
];

let huge: string | null = null;
/** A body that is too large, made once. */
function hugeBody(): string {
  huge ??= 'A'.repeat(LIMITS.bodyBytes.value + 1);
  return huge;
}

const MALFORMED: readonly Builder[] = [
  (material) => ({ body: genuine(material).replace('.', '.!'), expects: [JWS] }),
  (material) => ({
    body: seal(material.device.key, { alg: 'none', kid: material.device.id }, payloadOf(material)),
    expects: [JWS],
  }),
  (material) => ({
    body: seal(material.device.key, { ...headerOf(material.device), jku: 'https://x.invalid' }, payloadOf(material)),
    expects: [JWS],
  }),
  (material) => {
    const body = genuine(material);
    return { body: body.slice(0, body.lastIndexOf('.')), expects: [JWS] };
  },
  (material) => ({
    body: seal(material.device.key, headerOf(material.device), payloadOf(material).slice(0, -2)),
    expects: ['400 malformed-json'],
  }),
  (material) => ({
    body: seal(
      material.device.key,
      headerOf(material.device),
      payloadOf(material).replace(/"at":\d+,"profile"/, '"at":NaN,"profile"'),
    ),
    expects: ['400 malformed-json'],
  }),
  (material) => ({
    body: genuine(material, {
      readings: Array.from({ length: LIMITS.readingsPerEnvelope.value + 1 }, () =>
        material.device.reading(material.now),
      ),
    }),
    expects: [SCHEMA],
  }),
  (material) => ({ body: genuine(material, { readings: [] }), expects: [SCHEMA] }),
  (material) => ({ body: genuine(material, { admin: true }), expects: [SCHEMA] }),
  (material) => ({ body: genuine(material, { profile: 'toaster' }), expects: [SCHEMA] }),
  () => ({ body: hugeBody(), expects: ['413 body-too-large'] }),
  (material) => ({ body: genuine(material), contentType: 'text/plain', expects: ['415 content-type'] }),
];

const BUILDERS: Readonly<Record<Attack, readonly Builder[]>> = {
  replay: REPLAY,
  forged: FORGED,
  stale: STALE,
  malformed: MALFORMED,
};

/** How many different requests an attack has. */
export function variantsOf(kind: Attack): number {
  return BUILDERS[kind].length;
}

/** Request number `n` of an attack; its variants take turns. Null when it cannot be made yet. */
export function buildAttack(kind: Attack, n: number, material: AttackMaterial): AttackRequest | null {
  const builders = BUILDERS[kind];
  const made = builders[n % builders.length]?.(material) ?? null;
  return made === null ? null : { kind, ...made };
}
