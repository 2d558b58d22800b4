/** Addresses of servers and brokers as options give them: checked before anything is sent there. */
import { DeviceError } from './device-error.ts';

const LOOPBACK = /^(localhost|127(\.[0-9]{1,3}){3}|\[::1\])$/;

/** What is allowed. */
export interface UrlRules {
  /** Name of the option, for the message. */
  readonly option: string;
  /** Schemes with the colon: encrypted, plain. */
  readonly secure: string;
  readonly plain: string;
  readonly allowInsecure: boolean;
}

/**
 * The URL, when it is of one of the two schemes, without credentials, query and fragment, and encrypted or on this machine.
 * Throws `option-invalid` or `server-insecure`; the message does not repeat the URL, which may hold a credential.
 */
export function checkUrl(text: string, { option, secure, plain, allowInsecure }: UrlRules): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== secure && url.protocol !== plain) || url.hostname === '') {
    throw new DeviceError('option-invalid', `${option} must be a URL that begins with ${secure}// or ${plain}//`);
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new DeviceError('option-invalid', `${option} must carry no user, password, query or fragment`);
  }
  if (url.protocol === plain && !allowInsecure && !LOOPBACK.test(url.hostname)) {
    throw new DeviceError('server-insecure', `${option} must begin with ${secure}//, or allowInsecure be true`);
  }
  return url;
}

/** An API key as it may stand in a header. Throws `option-invalid`, without the key. */
export function checkApiKey(apiKey: string): string {
  if (typeof apiKey === 'string' && /^[\x21-\x7e]{8,256}$/.test(apiKey)) return apiKey;
  throw new DeviceError('option-invalid', 'apiKey must be 8 to 256 visible ASCII characters');
}
