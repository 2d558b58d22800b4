/** What `tocsin agent` prints: one line for each piece of news, for people or as JSON. Pure; no line holds a credential. */
import type { AgentNews } from '@tocsin/device/agent/agent-news';
import type { ReporterStatus } from '@tocsin/device/reporter';

/** The beginning and the end beside what happens between. */
export type AgentLine =
  | AgentNews
  | {
      readonly news: 'started';
      readonly id: string;
      readonly server: string;
      readonly signed: boolean;
      readonly intervalSeconds: number;
      readonly folder: string;
      readonly queued: number;
    }
  | ({ readonly news: 'stopped' } & Pick<ReporterStatus, 'delivered' | 'queued' | 'dropped'>);

/** A reason as a sentence goes on with it; others are shown by their name. */
const REASONS: Readonly<Record<string, string>> = {
  'connection-refused': 'nobody listens there, or the broker is not ready',
  'connection-lost': 'the connection broke',
  timeout: 'no answer in time',
  'name-unknown': 'the name of the server is not known',
  'tls-failed': 'the certificates do not check',
  'broker-refused': 'the broker refuses this user, password or client id',
  'folder-unusable': 'the folder cannot be read',
  'api-key-unknown': 'the server does not know the API key',
  'device-unknown': 'the host is not registered (tocsin agent --show-key)',
  'device-mismatch': 'the host is registered with another profile',
  'signature-invalid': 'the host is registered with another key',
};

/** The line, with its newline. `at`: Unix ms. */
export function agentLine(line: AgentLine, json: boolean, at: number): string {
  return json ? `${JSON.stringify({ at, ...line })}\n` : `${new Date(at).toISOString()} ${sentence(line)}\n`;
}

function sentence(line: AgentLine): string {
  switch (line.news) {
    case 'started': {
      const way = line.signed ? 'signed' : 'not signed';
      const waits = line.queued === 0 ? '' : `; ${frames(line.queued)} of earlier runs`;
      return `${line.id} reports to ${line.server} every ${line.intervalSeconds} s, ${way}, by way of ${line.folder}${waits}`;
    }
    case 'delivering':
      return line.queued === 0 ? 'the server takes frames' : `the server takes frames; ${frames(line.queued)} to go`;
    case 'waiting':
      return `waiting: ${reasonText(line.reason)}; frames are kept (${line.queued})`;
    case 'refused':
      return `refused: ${reasonText(line.reason)}; frames are kept (${line.queued}), and it is tried again`;
    case 'not-measured':
      return `no frame: ${line.detail}`;
    case 'not-kept':
      return `a frame is lost: ${line.detail}`;
    case 'working':
      return 'frames are made and kept again';
    case 'dropped':
      return `too many frames wait: the oldest had to go, ${line.frames} so far`;
    case 'damaged':
      return `the disk has lost kept frames, ${line.frames} so far`;
    case 'dead-letter':
      return `set aside, the server will never take it: ${reasonText(line.reason)} ${line.detail}`.trimEnd();
    case 'stopped':
      return `stopped: ${line.delivered} delivered, ${line.queued} kept for the next run, ${line.dropped} dropped`;
  }
}

function frames(count: number): string {
  return count === 1 ? '1 frame' : `${count} frames`;
}

/** What `reason` means, for people. */
export function reasonText(reason: string): string {
  return REASONS[reason] ?? reason;
}
