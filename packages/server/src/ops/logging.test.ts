import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Logger, createLogger } from './logging.ts';
import { redactFields, redactText } from './redaction.ts';
import { throttled } from './throttled-log.ts';

function capture(level: 'trace' | 'warn' = 'trace'): {
  log: Logger;
  lines: () => Record<string, unknown>[];
  text: () => string;
} {
  const written: string[] = [];
  const log = createLogger({ level, destination: { write: (line) => written.push(line) } });
  return {
    log,
    text: () => written.join(''),
    lines: () => written.map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

describe('the log', () => {
  it('writes one JSON line for each call, with level, time and message', () => {
    const { log, lines } = capture();
    log.info('started');
    log.child({ part: 'http' }).warn({ port: 1 }, 'bound\nto a port');
    expect(lines()).toEqual([
      { level: 'info', time: expect.any(Number), msg: 'started' },
      { level: 'warn', time: expect.any(Number), part: 'http', port: 1, msg: 'bound\nto a port' },
    ]);
  });

  it('leaves out what is below its level', () => {
    const { log, text } = capture('warn');
    log.info('quiet');
    expect(log.isLevelEnabled('info')).toBe(false);
    expect(text()).toBe('');
  });

  it('writes readable lines when asked to', () => {
    const written: string[] = [];
    createLogger({ level: 'info', pretty: true, destination: { write: (line) => written.push(line) } }).info(
      { n: 1 },
      'hello',
    );
    expect(written.join('')).toMatch(/INFO.*hello/);
  });

  it('hides secrets at any depth, in headers, errors, URLs and messages', () => {
    const { log, text } = capture();
    const secret = 'hunter2hunter2';
    const error = new Error(`GET /ws?ticket=${secret} failed`, { cause: new Error(`postgres://u:${secret}@h/db`) });
    log.error(
      { err: error, request: { headers: { Authorization: `Bearer ${secret}`, cookie: secret, 'X-API-Key': secret } } },
      `Bearer ${secret}`,
    );
    log.error(
      { a: { b: [{ c: { password: secret, refresh_token: secret } }] }, url: `/x?a=1&token=${secret}&b=2` },
      'x',
    );
    log.child({ token: secret }).info('child');
    log.info(`key tocsin_${secret.padEnd(43, 'x')}`);
    log.info({ protocol: `tocsin.v1, bearer.${secret}` }, 'subprotocol');
    expect(text()).not.toContain(secret);
    expect(text()).toContain('a=1');
    expect(text()).toContain('b=2');
  });

  it('bounds depth, length and entries, and survives cycles, getters that throw and odd values', () => {
    const loop: Record<string, unknown> = {
      big: 10n,
      when: new Date(0),
      bytes: Buffer.alloc(9),
      long: 'x'.repeat(100_000),
    };
    loop['self'] = loop;
    Object.defineProperty(loop, 'bad', {
      enumerable: true,
      get: () => {
        throw new Error('no');
      },
    });
    loop['many'] = Array.from({ length: 10_000 }, (_, index) => index);
    const { log, text } = capture();
    log.info(loop, 'odd');
    expect(text().length).toBeLessThan(60_000);
    expect(text()).toContain('[9 bytes]');
  });

  it('never throws and never lets a secret member through, whatever it is given', () => {
    fc.assert(
      fc.property(fc.object({ maxDepth: 4 }), fc.uuid(), (fields, secret) => {
        const wrapped = { fields, inner: [{ password: secret }], url: `http://u:${secret}@h/?token=${secret}` };
        expect(JSON.stringify(redactFields(wrapped))).not.toContain(secret);
      }),
    );
  });

  it('hides compact tokens wherever they stand', () => {
    expect(redactText('got eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln there')).toBe('got [hidden] there');
  });
});

describe('the throttled log', () => {
  it('writes at most one line for each reason in a stretch, then says how many it left out', () => {
    let now = 0;
    const { log, lines } = capture();
    const limited = throttled(log, 1000, { now: () => now, monotonic: () => now });
    for (let n = 0; n < 5; n += 1) limited.warn('schema', {}, 'refused');
    limited.warn('replay', {}, 'refused');
    now = 1000;
    limited.warn('schema', {}, 'refused');
    expect(lines().map(({ reason, leftOut }) => [reason, leftOut])).toEqual([
      ['schema', undefined],
      ['replay', undefined],
      ['schema', 4],
    ]);
  });

  it('does not grow with the number of reasons', () => {
    const { log, lines } = capture();
    const limited = throttled(log, 1000, { now: () => 0, monotonic: () => 0 });
    for (let n = 0; n < 1000; n += 1) limited.warn(`reason ${n}`, {}, 'refused');
    expect(lines().length).toBeLessThanOrEqual(201);
  });
});
