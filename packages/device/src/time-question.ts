/** The question for a server's time where readings travel another way (MQTT has no time of its own). */
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { exchange } from './http-exchange.ts';
import { sampleOf, type TlsFiles } from './http-sender.ts';
import type { Sender } from './sender.ts';
import type { TimeSource } from './time-source.ts';

/** Who is asked. */
export interface TimeQuestionOptions {
  readonly url: URL;
  readonly tls: TlsFiles;
  readonly timeoutMs: number;
  readonly time: TimeSource;
}

/** Asks for the `Date` of `url`, over connections that `close` ends. */
export function createTimeQuestion({ url, tls, timeoutMs, time }: TimeQuestionOptions): {
  readonly ask: Sender['askTime'];
  readonly close: () => void;
} {
  const agent = url.protocol === 'https:' ? new SecureAgent(tls) : new Agent();
  return {
    ask: async () => sampleOf(await exchange({ url, method: 'GET', headers: {}, body: '', agent, timeoutMs, time })),
    close: () => agent.destroy(),
  };
}
