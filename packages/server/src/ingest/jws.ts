/**
 * Stage: the form of the envelope, a compact JWS (RFC 7515 section 7.1) whose protected header has exactly the members
 * `alg` = ES256 and `kid` = device id, and whose payload is JSON. Nothing is verified here.
 */
import { boundMap } from '../lib/bound-map.ts';
import { isUtf8 } from 'node:buffer';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Refusal } from '@tocsin/protocol/errors';
import type { Stage } from './stage.ts';

const COMPACT = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/;
/** DER of a P-256 signature takes at most 72 bytes; base64url of that is 96 characters. */
const SIGNATURE_CHARACTERS = 96;
const KNOWN_HEADERS = 20_000;

function malformed(detail: string): Refusal {
  return { code: 'malformed-jws', detail };
}

/** Parses compact serialisations; remembers headers, which a device sends the same each time. */
export function parseJws(): Stage {
  const devices = new Map<string, string>();
  return (draft) => {
    const parts = COMPACT.exec(draft.body);
    const [header, payload, signature] = [parts?.[1], parts?.[2], parts?.[3]];
    if (
      header === undefined ||
      payload === undefined ||
      signature === undefined ||
      parts?.slice(1).some(isCut) === true
    ) {
      return malformed('The body must be three base64url parts joined by full stops, without padding or white space');
    }
    const known = devices.get(header);
    const deviceId = known ?? deviceOf(header);
    if (typeof deviceId !== 'string') return deviceId;
    if (known === undefined) remember(devices, header, deviceId);
    if (signature.length > SIGNATURE_CHARACTERS) return malformed('The signature is longer than any P-256 signature');
    const bytes = Buffer.from(payload, 'base64url');
    if (!isUtf8(bytes)) return malformed('The payload is not UTF-8');
    try {
      draft.payload = JSON.parse(bytes.toString('utf8'));
    } catch {
      return { code: 'malformed-json', detail: 'The payload of the JWS is not JSON' };
    }
    draft.deviceId = deviceId;
    draft.signed = draft.body.slice(0, header.length + 1 + payload.length);
    draft.signature = Buffer.from(signature, 'base64url');
    return null;
  };
}

/** No bytes have a base64url of this length (RFC 4648 section 4); Node's decoder would pass over the last character. */
function isCut(part: string): boolean {
  return part.length % 4 === 1;
}

/** The `kid` of a protected header that has exactly the members allowed. */
function deviceOf(header: string): string | Refusal {
  if (header.length > LIMITS.jwsHeaderBytes.value) return malformed('The protected header is too long');
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch {
    return malformed('The protected header is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    return malformed('The protected header is not an object');
  }
  const { alg, kid } = parsed as Record<string, unknown>;
  if (alg !== 'ES256') return malformed('The protected header needs "alg" = "ES256"');
  if (!isIdentifier(kid)) return malformed('The protected header needs "kid" = the device id');
  if (Object.keys(parsed).length !== 2) return malformed('The protected header may hold "alg" and "kid" only');
  return kid;
}

function remember(devices: Map<string, string>, header: string, deviceId: string): void {
  devices.set(header, deviceId);
  boundMap(devices, KNOWN_HEADERS);
}
