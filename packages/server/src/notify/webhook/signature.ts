/**
 * Signatures of webhooks by Standard Webhooks (standardwebhooks.com, "Signature scheme", symmetric): HMAC-SHA-256 over
 * `<id>.<timestamp>.<body>`, base64, marked `v1`. While a secret is being exchanged there is a signature for each.
 */
import { createHmac } from 'node:crypto';

const PREFIX = 'whsec_';
/** Bytes of a secret, by the specification. */
const LEAST_BYTES = 24;
const MOST_BYTES = 64;

/** The bytes of a secret `whsec_<base64>`; undefined when it is none. */
export function readWebhookSecret(text: string): Buffer | undefined {
  const encoded = text.slice(PREFIX.length);
  if (!text.startsWith(PREFIX) || !/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) return undefined;
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length < LEAST_BYTES || bytes.length > MOST_BYTES) return undefined;
  return bytes.toString('base64').replace(/=+$/, '') === encoded.replace(/=+$/, '') ? bytes : undefined;
}

/** The header `webhook-signature`. `timestamp` is Unix seconds, the header `webhook-timestamp`. */
export function signWebhook(secrets: readonly Buffer[], id: string, timestamp: number, body: string): string {
  return secrets
    .map((secret) => `v1,${createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64')}`)
    .join(' ');
}
