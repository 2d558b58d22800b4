/** A module of the benchmarks in a process of its own, that is asked things and tells of events. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What goes to a helper. */
interface Question {
  readonly id: number;
  readonly ask: unknown;
}

/** What comes from it: an answer, or an event (without `id`). */
interface Reply {
  readonly id?: number;
  readonly answer?: unknown;
  readonly failed?: string;
  readonly event?: unknown;
}

/** A helper as its parent sees it. */
export interface Helper<Ask, Event = never> {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Rejects when the helper fails or ends. */
  ask<Answer>(question: Ask): Promise<Answer>;
  /** The listener of events; one at a time. */
  onEvent: (event: Event) => void;
  stop(): Promise<void>;
}

/** Starts the module `file` beside this one. */
export function startHelper<Ask, Event = never>(file: string, execArgv: readonly string[] = []): Helper<Ask, Event> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { stdio: 'inherit', execArgv: [...execArgv] });
  const open = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>();
  let last = 0;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', (code) => {
      for (const { reject } of open.values()) reject(new Error(`${file} ended (${code})`));
      open.clear();
      resolve();
    });
  });
  const helper: Helper<Ask, Event> = {
    child,
    pid: child.pid ?? 0,
    onEvent: () => undefined,
    ask<Answer>(ask: Ask) {
      last += 1;
      const id = last;
      return new Promise<Answer>((resolve, reject) => {
        open.set(id, { resolve: (answer) => resolve(answer as Answer), reject });
        child.send({ id, ask } satisfies Question);
      });
    },
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
  child.on('message', (message) => {
    const reply = message as Reply;
    if (reply.id === undefined) return helper.onEvent(reply.event as Event);
    const waiting = open.get(reply.id);
    open.delete(reply.id);
    if (reply.failed === undefined) waiting?.resolve(reply.answer);
    else waiting?.reject(new Error(`${file}: ${reply.failed}`));
  });
  return helper;
}

/** The helper's own side: answers what is asked. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the parent's questions have the type that its `startHelper` names
export function serveParent<Ask>(answer: (ask: Ask) => unknown): void {
  process.on('message', (message) => {
    const { id, ask } = message as Question;
    void (async () => {
      try {
        process.send?.({ id, answer: await answer(ask as Ask) } satisfies Reply);
      } catch (error) {
        process.send?.({ id, failed: String(error) } satisfies Reply);
      }
    })();
  });
  process.on('disconnect', () => process.exit(0));
}

/** Tells the parent of an event. */
export function tellParent(event: object): void {
  process.send?.({ event } satisfies Reply);
}
