/**
 * Who is behind a CONNECT (contract, section 4): the password is an API key with scope `ingest`, or the access token of the
 * device that the user name says. Nothing of either is kept but what a later look needs, and nothing is logged.
 */
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { ERRORS } from '@tocsin/protocol/errors';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { LIMITS } from '@tocsin/protocol/limits';
import { CONNACK, type ConnackCode } from './embedded-connect.ts';
import type { EmbeddedIdentity } from './embedded-options.ts';

/** In whose name a connection speaks. */
export type MqttHolder =
  | { readonly kind: 'key'; readonly id: string /** To look again whether it lives. */; readonly text: string }
  | {
      readonly kind: 'device';
      readonly deviceId: string;
      readonly sessionId: string;
      /** Unix ms. */
      readonly expiresAt: number;
    };

/** The name of a holder for limits; never a secret. */
export function holderName(holder: MqttHolder): string {
  return holder.kind === 'key' ? `key:${holder.id}` : `device:${holder.deviceId}`;
}

/** The scope that an API key needs here. */
const SCOPE = 'ingest';
/** A token that only hears orders. */
const LISTENING_SCOPE = 'kill-switch';

/** Answers the holder, or the code to refuse with. Never rejects: what cannot be checked is `unavailable`. */
export async function checkCredentials(
  identity: Pick<EmbeddedIdentity, 'apiKey' | 'accessToken' | 'deviceActive'>,
  { username, password }: { readonly username: string | null; readonly password: string | null },
): Promise<MqttHolder | ConnackCode> {
  if (password === null || password === '' || password.length > LIMITS.tokenCharacters.value)
    return CONNACK.credentials;
  try {
    const key = await identity.apiKey(password);
    if (key !== null)
      return key.scopes.includes(SCOPE) ? { kind: 'key', id: key.id, text: password } : CONNACK.forbidden;
    if (!isIdentifier(username) || password.split('.').length !== 3) return CONNACK.credentials;
    const { deviceId, scope, sessionId, expiresAt } = await identity.accessToken(password);
    if (deviceId === null || deviceId !== username || scope === LISTENING_SCOPE) return CONNACK.forbidden;
    if (!(await identity.deviceActive(deviceId))) return CONNACK.forbidden;
    return { kind: 'device', deviceId, sessionId, expiresAt };
  } catch (error) {
    return codeOf(error);
  }
}

function codeOf(error: unknown): ConnackCode {
  if (error instanceof RefusalError) {
    const { status } = ERRORS[error.refusal.code];
    return status === 401 ? CONNACK.credentials : status >= 500 ? CONNACK.unavailable : CONNACK.forbidden;
  }
  return CONNACK.unavailable;
}
