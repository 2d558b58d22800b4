/** An error that says by a code what it is, so that nobody has to read its text. */

/** `code` is stable and documented where it is thrown; `cause` holds what lies below. */
export class CodedError extends Error {
  override readonly name = 'CodedError';
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** True when `error` is a {@link CodedError} with this code. */
export function hasCode(error: unknown, code: string): error is CodedError {
  return error instanceof CodedError && error.code === code;
}
