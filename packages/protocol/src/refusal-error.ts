/** A refusal on its way out of a handler: thrown at the edges, turned into a problem document (RFC 9457) there. */
import { ERRORS, type ErrorCode, type ErrorDetail, type Refusal } from './errors.ts';

/** Carries a {@link Refusal}. `message` is its detail, which never holds a secret. */
export class RefusalError extends Error {
  override readonly name = 'RefusalError';
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.detail);
    this.refusal = refusal;
  }
}

/** Builds a {@link RefusalError}; without `detail` the code's title speaks. */
export function refuse(code: ErrorCode, detail?: string, errors?: readonly ErrorDetail[]): RefusalError {
  return new RefusalError({ code, detail: detail ?? ERRORS[code].title, ...(errors === undefined ? {} : { errors }) });
}
