/**
 * The log: JSON lines on stdout, readable lines on a terminal. Nothing outside `ops` knows that it is pino.
 *
 * Guarantees: no secret leaves by way of a field (names like `password`, `token`, `authorization`, at any depth), a
 * `Bearer …`, a query value (`?token=…`) or the user part of a URL; a field is bounded in depth, length and entries, so a
 * peer cannot fill the disk by one line. Lines are written in the order of the calls, before the call returns.
 * Failure: writing to a closed pipe is ignored; logging never throws.
 */
import pino from 'pino';
import pretty from 'pino-pretty';
import { redactFields, redactText } from './redaction.ts';

/** Levels from the least to the most; `silent` writes nothing. */
export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** Members of a line. `err` holds an error. */
export type LogFields = object;

/** Writes a line: a message alone, or fields and a message. */
export interface LogFunction {
  (message: string): void;
  (fields: LogFields, message: string): void;
}

/** The program's log. */
export interface Logger {
  readonly trace: LogFunction;
  readonly debug: LogFunction;
  readonly info: LogFunction;
  readonly warn: LogFunction;
  readonly error: LogFunction;
  readonly fatal: LogFunction;
  /** A log that adds these fields to each line. */
  child(fields: LogFields): Logger;
  /** True when lines of this level are written. */
  isLevelEnabled(level: Exclude<Level, 'silent'>): boolean;
}

/** How the log is written. */
export interface LoggerOptions {
  readonly level: Level;
  /** Readable lines in place of JSON. Default: whether stdout is a terminal. */
  readonly pretty?: boolean;
  /** Where lines go. Default: stdout. */
  readonly destination?: { write(line: string): unknown };
}

/** Builds the log. */
export function createLogger(options: LoggerOptions): Logger {
  const readable = options.pretty ?? (options.destination === undefined && process.stdout.isTTY === true);
  return wrap(
    pino(
      {
        level: options.level,
        base: null,
        formatters: { level: (label) => ({ level: label }) },
        // Our own redaction has made plain data of errors already.
        serializers: { err: (value: unknown) => value },
      },
      readable
        ? readableStream(options.destination)
        : (options.destination ?? pino.destination({ dest: 1, sync: true })),
    ),
  );
}

/** A log that writes nothing: for tests and for libraries of ours without one. */
export const silentLogger: Logger = createLogger({
  level: 'silent',
  pretty: false,
  destination: { write: () => true },
});

function readableStream(destination: LoggerOptions['destination']): pino.DestinationStream {
  const shared = { translateTime: 'SYS:HH:MM:ss.l', sync: true, singleLine: true } as const;
  if (destination === undefined) return pretty({ ...shared, colorize: true, destination: 1 });
  const prettify = pretty.prettyFactory({ ...shared, colorize: false });
  return { write: (line) => void destination.write(prettify(line)) };
}

function wrap(log: pino.Logger): Logger {
  const at =
    (level: Exclude<Level, 'silent'>): LogFunction =>
    (fieldsOrMessage: LogFields | string, message?: string) => {
      if (!log.isLevelEnabled(level)) return;
      if (typeof fieldsOrMessage === 'string') log[level](redactText(fieldsOrMessage));
      else log[level](redactFields(fieldsOrMessage), redactText(message ?? ''));
    };
  return {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
    child: (fields) => wrap(log.child(redactFields(fields))),
    isLevelEnabled: (level) => log.isLevelEnabled(level),
  };
}
