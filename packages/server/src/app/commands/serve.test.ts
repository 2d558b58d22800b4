import { EventEmitter } from 'node:events';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { CodedError } from '../../lib/coded-error.ts';
import { createLogger } from '../../ops/logging.ts';
import { type Settings, readSettings } from '../settings.ts';
import { type RunningApp, type ServeOptions, type StartOptions, serve } from './serve.ts';
import { type ScriptedTerminal, scriptedTerminal } from './scripted-terminal.suite.ts';

interface Scene {
  readonly options: ServeOptions;
  readonly events: EventEmitter;
  readonly terminal: ScriptedTerminal;
  readonly calls: string[];
  readonly log: () => string;
  /** Resolves when the app was started. */
  readonly started: Promise<StartOptions>;
}

function settingsOf(env: Record<string, string> = {}): Settings {
  const outcome = readSettings(env, tmpdir());
  if ('mistakes' in outcome) throw new Error(outcome.mistakes.join());
  return outcome.settings;
}

function scene(
  app: Partial<RunningApp> = {},
  changes: { readable?: boolean; env?: Record<string, string>; start?: () => Promise<void> } = {},
): Scene {
  const events = new EventEmitter();
  const terminal = scriptedTerminal({ readable: changes.readable ?? false });
  const calls: string[] = [];
  let text = '';
  let begin: (options: StartOptions) => void = () => undefined;
  const started = new Promise<StartOptions>((resolve) => {
    begin = resolve;
  });
  const running: RunningApp = {
    address: 'http://127.0.0.1:4711',
    ready: Promise.resolve(),
    note: undefined,
    credentials: {} as RunningApp['credentials'],
    drain: () => Promise.resolve(void calls.push('drain')),
    stop: () => Promise.resolve(void calls.push('stop')),
    ...app,
  };
  return {
    events,
    terminal,
    calls,
    started,
    log: () => text,
    options: {
      settings: settingsOf(changes.env),
      log: createLogger({
        level: 'info',
        destination: {
          write: (line) => {
            text += line;
          },
        },
      }),
      terminal,
      events,
      async startApp(_settings, options) {
        begin(options);
        await changes.start?.();
        return running;
      },
    },
  };
}

const withTls = (settings: Settings): Settings => ({ ...settings, tlsCertFile: 'tls.crt', tlsKeyFile: 'tls.key' });

const settle = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve);
  });

describe('serve', () => {
  it('ends a demo before it drains', async () => {
    const { options, events, calls } = scene();
    const demo = {
      screen: 'a demo',
      start: () => {
        setImmediate(() => events.emit('SIGTERM'));
        return Promise.resolve({ stop: () => Promise.resolve(void calls.push('demo')) });
      },
    };
    expect(await serve({ ...options, demo })).toBe(0);
    expect(calls).toEqual(['demo', 'drain', 'stop']);
  });

  it('goes on without a demo that cannot start, and says so', async () => {
    const { options, events, calls, log } = scene();
    const start = (): Promise<never> => {
      setImmediate(() => events.emit('SIGTERM'));
      return Promise.reject(new CodedError('server-refused', 'no place for a demo'));
    };
    expect(await serve({ ...options, demo: { screen: 'a demo', start } })).toBe(0);
    expect(calls).toEqual(['drain', 'stop']);
    expect(log()).toContain('the demo could not be started');
  });

  it('shows on the start screen that a demo is simulated', async () => {
    const { options, events, terminal } = scene({}, { readable: true });
    const start = (): Promise<{ stop(): Promise<void> }> => {
      events.emit('SIGTERM');
      return Promise.resolve({ stop: () => Promise.resolve() });
    };
    await serve({ ...options, demo: { screen: 'all of it an exercise', start } });
    expect(terminal.stdout()).toContain('Demo     all of it an exercise');
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'])(
    'ends with 0 on %s, drained, then stopped, and a second one changes nothing',
    async (signal) => {
      const { options, events, calls, started } = scene();
      const code = serve(options);
      await started;
      await settle();
      events.emit(signal);
      events.emit('SIGTERM');
      expect(await code).toBe(0);
      expect(calls).toEqual(['drain', 'stop']);
      expect(events.eventNames()).toEqual([]);
    },
  );

  it('reads its certificates anew on SIGHUP with TLS, and goes on', async () => {
    const { options, events, calls, started } = scene({
      reloadCertificates: () => Promise.resolve(void calls.push('reload')),
    });
    const code = serve({ ...options, settings: withTls(options.settings) });
    events.emit('SIGHUP');
    await started;
    await settle();
    events.emit('SIGHUP');
    events.emit('SIGHUP');
    await settle();
    expect(calls).toEqual(['reload', 'reload']);
    events.emit('SIGTERM');
    expect(await code).toBe(0);
  });

  it('ends on SIGHUP with TLS, too, when that comes from the end of its terminal', async () => {
    const { options, events, calls, started } = scene(
      { reloadCertificates: () => Promise.resolve(void calls.push('reload')) },
      { readable: true },
    );
    const code = serve({ ...options, settings: withTls(options.settings) });
    await started;
    await settle();
    events.emit('SIGHUP');
    expect(await code).toBe(0);
    expect(calls).toEqual(['drain', 'stop']);
  });

  it('waits for its start when it is told to end meanwhile', async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { options, events, calls, started } = scene({}, { start: () => gate });
    const code = serve(options);
    await started;
    events.emit('SIGTERM');
    await settle();
    expect(calls).toEqual([]);
    go();
    expect(await code).toBe(0);
    expect(calls).toEqual(['drain', 'stop']);
  });

  it('gives a start up that waits for its database when it is told to end meanwhile, with 0', async () => {
    let give: (error: Error) => void = () => undefined;
    const gate = new Promise<void>((_resolve, reject) => {
      give = reject;
    });
    const { options, events, calls, started } = scene({}, { start: () => gate });
    const code = serve(options);
    (await started).signal.addEventListener('abort', () => give(new CodedError('store-unavailable', 'away')));
    events.emit('SIGTERM');
    expect(await code).toBe(0);
    expect(calls).toEqual([]);
  });

  it.each(['uncaughtException', 'unhandledRejection'])(
    'logs an %s as fatal, ends gracefully, with 1',
    async (event) => {
      const { options, events, calls, started, log } = scene();
      const code = serve(options);
      await started;
      await settle();
      events.emit(event, new Error('a bug'));
      expect(await code).toBe(1);
      expect(calls).toEqual(['drain', 'stop']);
      expect(log()).toContain('"level":"fatal"');
      expect(log()).toContain('a bug');
    },
  );

  it('ends with 1 when the app says that it cannot go on', async () => {
    const { options, calls, started, log } = scene();
    const code = serve(options);
    (await started).onFatal('another process has taken over');
    expect(await code).toBe(1);
    expect(calls).toEqual(['drain', 'stop']);
    expect(log()).toContain('another process has taken over');
  });

  it('ends an app that never becomes ready, with 1', async () => {
    const { options, calls } = scene({ ready: Promise.reject(new Error('the worker died')) });
    expect(await serve(options)).toBe(1);
    expect(calls).toEqual(['drain', 'stop']);
  });

  it('stops although the drain hangs, and cuts a stop that hangs', async () => {
    const hang = (): Promise<void> => new Promise(() => undefined);
    const hangingDrain = scene({ drain: hang }, { env: { DRAIN_SECONDS: '0.05' } });
    const first = serve(hangingDrain.options);
    await hangingDrain.started;
    hangingDrain.events.emit('SIGTERM');
    expect(await first).toBe(0);
    expect(hangingDrain.calls).toEqual(['stop']);

    const hangingStop = scene({ stop: hang }, { env: { DRAIN_SECONDS: '0.05' } });
    const second = serve(hangingStop.options);
    await hangingStop.started;
    hangingStop.events.emit('SIGTERM');
    expect(await second).toBe(1);
    expect(hangingStop.log()).toContain('stopping did not end in time');
  });

  it.each<[string, number]>([
    ['data-dir-in-use', 78],
    ['second-process', 78],
    ['cluster-secret-wrong', 78],
    ['store-unavailable', 69],
    ['migration-failed', 1],
  ])('makes one readable line of a start that fails with %s, and ends with %i', async (code, exit) => {
    const { options, terminal, log } = scene(
      {},
      { start: () => Promise.reject(new CodedError(code, 'what is wrong')) },
    );
    expect(await serve(options)).toBe(exit);
    expect(terminal.stderr()).toBe('tocsin: what is wrong\n');
    expect(log()).toBe('');
  });

  it('logs a failed start that nobody expected with its stack', async () => {
    const { options, log } = scene({}, { start: () => Promise.reject(new TypeError('a bug')) });
    expect(await serve(options)).toBe(1);
    expect(log()).toContain('serve.test.ts');
  });

  it('shows a screen on a terminal only', async () => {
    for (const readable of [true, false]) {
      const { options, events, terminal, started } = scene({ note: 'the database lives elsewhere' }, { readable });
      const code = serve(options);
      expect((await started).terminal === undefined).toBe(!readable);
      await settle();
      events.emit('SIGTERM');
      await code;
      if (readable) {
        for (const part of [
          'http://127.0.0.1:4711/docs',
          'the database lives elsewhere',
          options.settings.dataDir,
          '/v1/auth/login',
        ]) {
          expect(terminal.stdout()).toContain(part);
        }
      } else expect(terminal.stdout()).toBe('');
    }
  });
});
