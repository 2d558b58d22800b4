/** What can go wrong in the SDK itself, by a code, so that nobody has to read the text. Answers of a server are not errors: see `verdict.ts`. */

/** Every code with what it means and what mends it; `docs/device-sdk.md` shows these rows. */
export const DEVICE_ERRORS = {
  'option-invalid': 'An option is missing or out of its range; the message names it and the rule',
  'server-insecure': 'The API key would travel in the clear: use https (mqtts), or allow it by `allowInsecure`',
  'key-file-open': 'Others than its owner can read the key file: `chmod 600`, and make a new key if it may be known',
  'key-file-invalid': 'The key file holds no private P-256 key as PEM',
  'folder-in-use': 'Another process, or another device of this one, works on the folder',
  'folder-of-another-device': 'The folder holds what another device has queued',
  'folder-unusable': 'The folder cannot be read or written; the cause says why',
  'disk-full': 'There is no room on the disk; what is queued stays queued',
  'outbox-full': 'The outbox is full of what may not be dropped for this',
  'reading-invalid': 'A reading is no object that JSON can carry',
  'reading-too-large': 'One reading alone is larger than an envelope may be',
  'challenge-invalid': 'The nonce or the device id is not of the form that may be signed',
  closed: 'The device was closed',
} as const;

/** A code of {@link DEVICE_ERRORS}. */
export type DeviceErrorCode = keyof typeof DEVICE_ERRORS;

/** An error of the SDK. `cause` holds what lies below; no message carries a credential or a reading. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
  readonly code: DeviceErrorCode;

  constructor(code: DeviceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The code of a system call's error (`ENOSPC`), or an empty text. */
export function systemCode(error: unknown): string {
  const code = (error as { readonly code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** What failed at the disk, as one of ours: `disk-full`, else `folder-unusable`. */
export function diskError(path: string, error: unknown): DeviceError {
  if (error instanceof DeviceError) return error;
  const why = systemCode(error);
  if (why === 'ENOSPC' || why === 'EDQUOT')
    return new DeviceError('disk-full', `no room for ${path}`, { cause: error });
  return new DeviceError('folder-unusable', `cannot work on ${path}: ${why || String(error)}`, { cause: error });
}
