/**
 * `tocsin serve`: starts the app, waits for a reason to end, ends it.
 *
 * Guarantees: SIGTERM, SIGINT and SIGHUP drain and stop within DRAIN_SECONDS (exit 0); a second one changes nothing. An
 * error that nobody caught is logged as fatal, then the same way with at most 5 s (exit 1). A signal during the start
 * waits for the start, then ends it; a start that waits for its database is given up. An end that takes longer than it may is logged and cut (exit 1).
 * With TLS and no terminal that could hang up, SIGHUP means to read the certificates anew, as for other servers.
 */
import type { Logger } from '../../ops/logging.ts';
import { createLogger } from '../../ops/logging.ts';
import type { Settings } from '../settings.ts';
import { VERSION } from '../version.ts';
import type { CredentialBook } from '../temporary-access.ts';
import { type Command, type CommandContext, type ProcessEvents, requireSettings } from './command.ts';
import { type EndingCause, type EndingWatch, watchEnding } from './ending.ts';
import { EXIT, type ExitCode, endingOf } from './exit-codes.ts';
import { type DemoOffer, offerDemo, readDemo } from './serve-demo.ts';
import { startScreen } from './start-screen.ts';
import type { Terminal } from './terminal.ts';

/** The app as this command sees it. */
export interface RunningApp {
  /** The origin that it listens at. */
  readonly address: string;
  /** Of the listener of `WS_PORT`; null or absent without one. */
  readonly webSocketAddress?: string | null;
  /** Resolves once it takes work; rejects when it ends before. */
  readonly ready: Promise<void>;
  /** What the operator should know about the store. */
  readonly note: string | undefined;
  /** Makes and ends credentials. */
  readonly credentials: CredentialBook;
  /** Looks at the certificate files now; absent without TLS. */
  readonly reloadCertificates?: () => Promise<unknown>;
  drain(): Promise<void>;
  stop(): Promise<void>;
}

/** What the app is started with. */
export interface StartOptions {
  readonly log: Logger;
  /** Writes to a person; absent when there is none. */
  readonly terminal?: (text: string) => void;
  /** The app cannot go on and asks to be ended. */
  readonly onFatal: (reason: string) => void;
  /** Ends a start that waits for its database. */
  readonly signal: AbortSignal;
}

/** Starts the app. */
export type StartApp = (settings: Settings, options: StartOptions) => Promise<RunningApp>;

/** What {@link serve} works with. */
export interface ServeOptions {
  readonly settings: Settings;
  readonly log: Logger;
  readonly terminal: Terminal;
  readonly events: ProcessEvents;
  readonly startApp: StartApp;
  /** A demo beside the server; absent: none. */
  readonly demo?: DemoOffer;
}

/** Of DRAIN_SECONDS, so much is kept for stopping what is left after the drain (at most a quarter). */
const STOP_RESERVE_MS = 3000;
const CRASH_MS = 5000;
/** For the exit itself (at most a twentieth of DRAIN_SECONDS). */
const CUT_MS = 250;
/** A demo ends before the drain, within so long (at most a quarter of DRAIN_SECONDS). */
const DEMO_END_MS = 2000;

/** The command. */
export const serveCommand: Command = {
  name: 'serve',
  usage: '[--demo [--demo-every <s>]]',
  summary: 'run the server; with --demo also a simulated fleet (exercise), so that there is something to see',
  async run(args, context) {
    const everySeconds = readDemo(args);
    const { settings, log } = readSettingsAndLog(context);
    // Loaded only here: the other commands need not wait for the whole server.
    const { startApp } = await import('../app.ts');
    const demo = everySeconds === null ? {} : { demo: offerDemo(settings, log, everySeconds) };
    return serve({ settings, log, startApp, terminal: context.terminal, events: context.events, ...demo });
  },
};

function readSettingsAndLog(context: CommandContext): { settings: Settings; log: Logger } {
  const warnings: string[] = [];
  const settings = requireSettings(context, (line) => warnings.push(line));
  const log = createLogger({ level: settings.logLevel });
  for (const line of warnings) log.warn(line);
  return { settings, log };
}

/** Runs a server until it should end; answers the exit code. */
export async function serve(options: ServeOptions): Promise<ExitCode> {
  const { settings, log, terminal, events, startApp } = options;
  let running: RunningApp | undefined;
  const onHangUp = (): boolean => {
    if (terminal.attached || settings.tlsCertFile === null) return false;
    // Before the listener is there, there is nothing old to be replaced.
    void running?.reloadCertificates?.();
    return true;
  };
  const watch = watchEnding(events, (error) => log.fatal({ err: error }, 'uncaught error'), onHangUp);
  const person = terminal.readable ? { terminal: terminal.out } : {};
  const abort = new AbortController();
  void watch.cause.then(() => abort.abort());
  const { signal } = abort;
  const starting = startApp(settings, { log, signal, onFatal: (reason) => watch.lost(reason), ...person });
  try {
    const first = await Promise.race([starting.then(() => 'started' as const), watch.cause]);
    if (first === 'started') running = await starting;
    const cause = running === undefined ? await watch.cause : await run(running, options, watch).catch(crashed(log));
    return await end(starting, cause, options);
  } catch (error) {
    return reportFailedStart(error, options);
  } finally {
    watch.close();
  }
}

/** An app that fails after its start is ended like one that crashed. */
function crashed(log: Logger): (error: unknown) => EndingCause {
  return (error) => {
    log.fatal({ err: error }, 'the server cannot work');
    return { kind: 'crash', error };
  };
}

/** From the listener's start to the cause of the end. */
async function run(app: RunningApp, options: ServeOptions, watch: EndingWatch): Promise<EndingCause> {
  const { settings, log, terminal, demo } = options;
  const { address, note, webSocketAddress = null } = app;
  log.info(
    {
      version: VERSION,
      node: process.version,
      address,
      ...(webSocketAddress === null ? {} : { webSocketAddress }),
      roles: settings.roles,
      ...(note === undefined ? {} : { note }),
    },
    'listening',
  );
  const first = await Promise.race([app.ready, watch.cause]);
  if (first !== undefined) return first;
  log.info({ address }, 'ready');
  if (terminal.readable) terminal.out(startScreen(settings, address, note, demo?.screen));
  return demo === undefined ? watch.cause : runDemo(app, demo, options, watch);
}

/** A demo that cannot start is said and no more; the server goes on. */
async function runDemo(
  app: RunningApp,
  demo: DemoOffer,
  { settings, log }: ServeOptions,
  watch: EndingWatch,
): Promise<EndingCause> {
  const starting = demo.start(app).catch((error: unknown) => {
    log.error({ err: error }, 'the demo could not be started');
    return null;
  });
  const cause = await watch.cause;
  const allowed = cause.kind === 'signal' ? Math.min(DEMO_END_MS, settings.drainSeconds * 250) : 0;
  const stopping = starting
    .then((running) => running?.stop())
    .catch((error: unknown) => log.warn({ err: error }, 'demo'));
  if ((await within(stopping, allowed)) === 'late') log.warn('the demo did not end in time');
  return cause;
}

async function end(
  starting: Promise<RunningApp>,
  cause: EndingCause,
  { settings, log }: ServeOptions,
): Promise<ExitCode> {
  const failed = cause.kind !== 'signal';
  const allowed = settings.drainSeconds * 1000;
  // A little less than that, so that the process is gone in time even when it has to be cut.
  const whole = failed ? Math.min(CRASH_MS, allowed) : allowed - Math.min(CUT_MS, allowed / 20);
  if (cause.kind === 'lost') log.fatal(cause.reason);
  log.info({ cause: cause.kind === 'signal' ? cause.signal : cause.kind, withinMs: whole }, 'ending');
  const begin = performance.now();
  const left = (reserve: number): number => Math.max(0, whole - reserve - (performance.now() - begin));
  const app = await within(starting, left(0)).catch((error: unknown) => {
    if (failed) throw error;
    log.info({ err: error }, 'ended before it had started');
    return 'never' as const;
  });
  if (app === 'late') return cut(log, 'the start did not end in time');
  if (app === 'never') return EXIT.done;
  const drained = await within(app.drain(), left(Math.min(STOP_RESERVE_MS, whole / 4)));
  if (drained === 'late') log.warn('not everything in flight ended in time');
  if ((await within(app.stop(), left(0) + (whole === 0 ? STOP_RESERVE_MS : 0))) === 'late')
    return cut(log, 'stopping did not end in time');
  log.info({ ms: Math.round(performance.now() - begin) }, 'ended');
  return failed ? EXIT.failed : EXIT.done;
}

function cut(log: Logger, why: string): ExitCode {
  log.error(why);
  return EXIT.failed;
}

/** `late` when `work` takes longer than `ms`. Rejects as `work` does. */
async function within<Value>(work: Promise<Value>, ms: number): Promise<Value | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function reportFailedStart(error: unknown, { log, terminal }: ServeOptions): ExitCode {
  const ending = endingOf(error);
  if (!ending.expected) log.fatal({ err: error }, 'the server failed');
  for (const line of ending.lines) terminal.err(`${line}\n`);
  return ending.code;
}
