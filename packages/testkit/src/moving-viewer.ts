/**
 * One viewer that writes down what happens to it. It does what the contract asks of a client: resumes, drops what it has,
 * and on `moving` opens the next connection after the delay it was told, before it lets go of the old one.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Story } from './story.ts';
import { connectViewer, type ScriptedViewer, type ViewerMessage } from './viewer.ts';

/** Where it watches, and who writes it down. */
export interface MovingOptions {
  readonly url: string;
  readonly token: string;
  /** The name of the instance that the newest connection went to. */
  readonly where: () => string;
  readonly story: Story;
}

/** What it saw. */
export interface MovingResult {
  readonly from: number;
  /** Offsets in the order in which they came first. */
  readonly seen: readonly number[];
  readonly longestGapMs: number;
  readonly unprotectedMs: number;
  readonly connections: number;
}

/** The viewer. */
export interface MovingViewer {
  result(): MovingResult;
  /** The instance of its newest connection. */
  at(): string;
  /** Waits for a watermark at which nothing is missing. */
  quiet(): Promise<void>;
  close(): void;
}

const BACK_MS = 50;

/** Watches; resolves at the first `welcome`. */
export async function watchMoving({ url, token, where, story }: MovingOptions): Promise<MovingViewer> {
  const seen: number[] = [];
  const seenAt: number[] = [];
  const provenAt: number[] = [performance.now()];
  let current: ScriptedViewer;
  let place = '';
  let count = 0;
  let over = false;
  let from = 0;
  let quietSince = 0;

  function onMessage(number: number, message: ViewerMessage): void {
    const { type, offset = 0 } = message;
    if (type === 'alert' || type === 'alert-update') {
      const again = offset <= (seen.at(-1) ?? from);
      story.alert(number, offset, again);
      if (again) return;
      seen.push(offset);
      seenAt.push(performance.now());
    } else if (type === 'watermark') {
      provenAt.push(performance.now());
      quietSince = offset;
      story.tell(`#${number} watermark ${offset}`);
    } else if (type === 'moving') {
      story.tell(`#${number} moving, in ${String(message['retryAfterMs'])} ms`);
      void move(number, Number(message['retryAfterMs']));
    }
  }

  async function move(number: number, delayMs: number): Promise<void> {
    const old = current;
    await pause(delayMs);
    await open();
    story.tell(`#${number} is not needed any more`);
    old.socket.close(1000);
  }

  /** Tries until it is welcomed. */
  async function open(): Promise<void> {
    const resume =
      seen.length === 0 && count === 0
        ? null
        : { epoch: String(current.welcome['epoch']), offset: seen.at(-1) ?? from };
    for (;;) {
      count += 1;
      const number = count;
      const next = await connectViewer(url, { token, ...(resume === null ? {} : { resume }) }).catch(
        (error: unknown) => {
          story.tell(`#${number} refused: ${error instanceof Error ? error.message.slice(0, 80) : 'no answer'}`);
          return null;
        },
      );
      if (next !== null) return adopt(number, next);
      await pause(BACK_MS);
    }
  }

  function adopt(number: number, next: ScriptedViewer): void {
    const { recovered, offset } = next.welcome;
    if (number === 1) from = Number(offset);
    current = next;
    place = where();
    story.tell(`#${number} welcome at ${place}, offset ${String(offset)}, recovered ${String(recovered)}`);
    for (const message of next.messages.slice(1)) onMessage(number, message);
    next.socket.on('message', (data) => onMessage(number, JSON.parse((data as Buffer).toString()) as ViewerMessage));
    void next.closed.then(({ code, reason }) => {
      if (over) return;
      story.tell(`#${number} closed with ${code}${reason === '' ? '' : ` (${reason})`}`);
      if (next === current) void open();
    });
  }

  await open();
  const longest = (times: readonly number[]): number =>
    Math.max(0, ...times.map((time, i) => (i === 0 ? 0 : time - (times[i - 1] ?? 0))));
  return {
    result: () => ({
      from,
      seen,
      longestGapMs: longest(seenAt),
      unprotectedMs: longest(provenAt),
      connections: count,
    }),
    at: () => place,
    async quiet() {
      const marks = provenAt.length;
      while (provenAt.length < marks + 2 || quietSince > (seen.at(-1) ?? from)) await pause(20);
    },
    close() {
      over = true;
      current.cut();
    },
  };
}
