/** What carries envelopes to a server: one of `http-sender.ts`, `mqtt-sender.ts`, or an app's own. */
import type { TimeSample } from './clock.ts';
import type { Answer } from './verdict.ts';

/** A way to a server. */
export interface Sender {
  /** Sends a sealed envelope once, within the sender's own time limit. Never rejects. */
  send(sealed: string, id: string): Promise<Answer>;
  /** Asks the server for its time; null when it did not say or there is nobody to ask. Never rejects. */
  askTime(): Promise<TimeSample | null>;
  /** Ends connections; what is on its way answers `connection-lost`. */
  close(): Promise<void>;
}
