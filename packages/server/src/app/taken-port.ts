/** A port that another program has, said by the name of the setting that asked for it. */
import { CodedError, hasCode } from '../lib/coded-error.ts';

/** The code of such an error; the system's own. */
const TAKEN = 'EADDRINUSE';

/** For the `catch` of a `listen`: throws a CodedError `EADDRINUSE` that names the setting; other errors as they are. */
export function nameTakenPort(setting: string, host: string, port: number): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof Error && 'code' in error && error.code === TAKEN)) throw error;
    const message = `${setting}: port ${port} of ${host} is in use by another program`;
    throw new CodedError(TAKEN, message, { cause: error });
  };
}

/** True for what {@link nameTakenPort} throws. */
export function isTakenPort(error: unknown): error is CodedError {
  return hasCode(error, TAKEN);
}
