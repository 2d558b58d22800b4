/**
 * Where a viewer's bytes go. The realtime part knows nothing of sockets and libraries: a transport gives it this.
 *
 * Contract for implementations: `write` takes whole frames and never copies or changes them; nothing is written once
 * `open` is false; `close` sends its close frame after everything written before.
 */
export interface Sink {
  /** False as soon as either side began to close. */
  readonly open: boolean;
  /** Bytes that wait in the socket. */
  readonly writableLength: number;
  write(bytes: Buffer): void;
  /** Holds writes back until `uncork`, so that they leave together. */
  cork(): void;
  uncork(): void;
  /** Calls `callback` once, when nothing waits in the socket any more; never when the socket ends before. */
  whenDrained(callback: () => void): void;
  /** Begins the close with one of the project's close codes. */
  close(code: number, reason: string): void;
}
