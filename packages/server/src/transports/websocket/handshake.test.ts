import type { IncomingMessage } from 'node:http';
import type { BucketShape } from '../../bus/ports/bus.ts';
import type { Admission } from './admission.ts';
import { createHandshakes, type Handshakes } from './handshake.ts';
import type { WebSocketChannels, WebSocketOptions } from './options.ts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClientCertificate } from '../http/client-certificate.ts';
import { answerProtocol, chooseCarrier, offeredProtocols } from './carrier.ts';
import { isUncounted, readClientMessage } from './client-message.ts';
import { Conduct, UNCOUNTED_MOST } from './conduct.ts';
import { reauthenticationDeadline, sameHolder } from './credential.ts';
import { refusalText } from './refuse-upgrade.ts';
import { type HandshakeForm, originAllowed, readParameters, readTarget, refuseForm } from './request.ts';

const rules = { publicOrigin: 'https://t.example', allowQueryToken: false };
const carrier = (
  headers: Record<string, string>,
  query = '',
  allowQueryToken = false,
  certificate: ClientCertificate | null = null,
): unknown => chooseCarrier(headers, new URLSearchParams(query), { ...rules, allowQueryToken }, () => certificate);

describe('the carrier of a credential', () => {
  it('is the first one present, in the order of the contract', () => {
    const all = {
      'sec-websocket-protocol': 'tocsin.v1, bearer.aaa',
      authorization: 'Bearer bbb',
      cookie: 'x=1; tocsin_session=ccc',
      origin: 'https://t.example',
    };
    expect(carrier(all, 'ticket=ddd&token=eee', true)).toEqual({ kind: 'subprotocol', secret: 'aaa' });
    const { 'sec-websocket-protocol': _protocol, ...rest } = all;
    expect(carrier(rest, 'ticket=ddd&token=eee', true)).toEqual({ kind: 'authorization', secret: 'bbb' });
    const { authorization: _authorization, ...cookies } = rest;
    expect(carrier(cookies, 'ticket=ddd&token=eee', true)).toEqual({ kind: 'cookie', secret: 'ccc' });
    expect(carrier({}, 'ticket=ddd&token=eee', true)).toEqual({ kind: 'ticket', secret: 'ddd' });
    expect(carrier({}, 'token=eee', true)).toEqual({ kind: 'query', secret: 'eee' });
    expect(carrier({}, 'token=eee')).toEqual({ kind: 'none' });
  });

  it('is a client certificate after both headers and before everything else, even one that is doubted', () => {
    for (const doubt of [null, 'unverified'] as const) {
      const shown = { doubt, emails: [], uris: [], commonNames: ['a'], validTo: 1, fingerprint: 'AA' };
      const all = { cookie: 'tocsin_session=ccc', origin: 'https://t.example' };
      const query = 'ticket=ddd&token=eee';
      expect(carrier(all, query, true, shown)).toEqual({ kind: 'certificate', certificate: shown });
      expect(carrier({ ...all, authorization: 'Bearer bbb' }, query, true, shown)).toMatchObject({ secret: 'bbb' });
      expect(carrier({ 'sec-websocket-protocol': 'bearer.aaa' }, query, true, shown)).toMatchObject({ secret: 'aaa' });
      expect(carrier({}, '', false, shown)).toMatchObject({ kind: 'certificate' });
    }
  });

  it('may be two subprotocols, and an empty one is present all the same', () => {
    expect(carrier({ 'sec-websocket-protocol': 'bearer, aaa' })).toEqual({ kind: 'subprotocol', secret: 'aaa' });
    expect(carrier({ 'sec-websocket-protocol': 'bearer', authorization: 'Bearer b' })).toEqual({
      kind: 'subprotocol',
      secret: '',
    });
  });

  it('is never the cookie with another origin or none', () => {
    const cookie = 'tocsin_session=ccc';
    expect(carrier({ cookie })).toEqual({ kind: 'foreign-cookie' });
    expect(carrier({ cookie, origin: 'https://other.example' })).toEqual({ kind: 'foreign-cookie' });
    expect(carrier({ cookie, origin: 'http://t.example' })).toEqual({ kind: 'foreign-cookie' });
    expect(carrier({ cookie, origin: 'https://other.example' }, 'ticket=ddd')).toEqual({
      kind: 'ticket',
      secret: 'ddd',
    });
  });

  it('is answered with the protocol or bearer, never with the token', () => {
    expect(answerProtocol(offeredProtocols('bearer.x, tocsin.v1'))).toBe('tocsin.v1');
    expect(answerProtocol(offeredProtocols('bearer.x'))).toBe('bearer');
    expect(answerProtocol(offeredProtocols('bearer, x'))).toBe('bearer');
    expect(answerProtocol(offeredProtocols('chat'))).toBe(false);
  });
});

describe('the form of a handshake', () => {
  const headers = {
    upgrade: 'WebSocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  const form = { method: 'GET', httpVersionMinor: 1, headers, rawHeaders: ['Host', 't.example'] };
  it('is checked before anything is done for it', () => {
    const code = (change: Partial<HandshakeForm>): string | undefined => refuseForm({ ...form, ...change })?.code;
    const header = (name: string, value: string): Partial<HandshakeForm> => ({
      headers: { ...headers, [name]: value },
    });
    expect(refuseForm(form)).toBeNull();
    expect(code({ method: 'POST' })).toBe('method-not-allowed');
    expect(code({ httpVersionMinor: 0 })).toBe('malformed-request');
    expect(code({ rawHeaders: [] })).toBe('malformed-request');
    expect(code({ rawHeaders: ['Host', 'a', 'host', 'b'] })).toBe('malformed-request');
    expect(code(header('sec-websocket-version', '8'))).toBe('upgrade-required');
    expect(code(header('upgrade', 'h2c'))).toBe('upgrade-required');
    expect(code(header('sec-websocket-key', 'x'))).toBe('malformed-parameter');
    for (const list of ['', 'a,', 'a,,b', 'a b', 'a, a', 'a;q=1'])
      expect([list, code(header('sec-websocket-protocol', list))]).toEqual([list, 'malformed-parameter']);
    expect(code(header('sec-websocket-protocol', 'tocsin.v1 ,\tbearer.e30.e30.-_'))).toBeUndefined();
  });

  it('may carry filters and a point to resume at, and nothing malformed', () => {
    const read = (query: string): unknown => readParameters(new URLSearchParams(query), true);
    expect(read('')).toEqual({ filter: { zone: null, minSeverity: null }, resume: null });
    expect(read('zone=z1&minSeverity=severe&epoch=e&offset=12')).toEqual({
      filter: { zone: 'z1', minSeverity: 'severe' },
      resume: { epoch: 'e', offset: 12 },
    });
    for (const bad of [
      'zone=a%20b',
      'zone=',
      'minSeverity=bad',
      'offset=1',
      'epoch=e',
      'epoch=e&offset=-1',
      'epoch=e&offset=1.5',
      'epoch=e&offset=',
    ]) {
      expect(read(bad)).toMatchObject({ code: 'malformed-parameter' });
    }
    // Above every head, and nobody's epoch: a resume that fails, not a malformed one.
    expect(read('epoch=e&offset=9223372036854775807')).toMatchObject({ resume: { offset: Number.MAX_SAFE_INTEGER } });
    expect(read(`epoch=${'e'.repeat(500)}&offset=1`)).toMatchObject({ resume: { epoch: 'e'.repeat(65) } });
  });

  it('never throws for any target', () => {
    fc.assert(fc.property(fc.string(), (target) => void readTarget(target)));
    expect(readTarget('//x/ws/alerts')).toBeNull();
    expect(readTarget('/ws/alerts?a=1')?.pathname).toBe('/ws/alerts');
  });

  it('passes without an origin, or with one from the list', () => {
    const allowed = new Set(['https://t.example']);
    expect(originAllowed(undefined, allowed)).toBe(true);
    expect(originAllowed('https://t.example', allowed)).toBe(true);
    expect(originAllowed('https://T.example:443', allowed)).toBe(true);
    for (const origin of ['null', '', 'https://t.example.evil', 'http://t.example', 'https://t.example:8443']) {
      expect(originAllowed(origin, allowed)).toBe(false);
    }
  });
});

describe('a refused handshake', () => {
  it('is a whole HTTP answer with a problem document and Retry-After', () => {
    const text = refusalText({ code: 'rate-limited', detail: 'Too many', retryAfterMs: 1500 }, false);
    const [head = '', body = ''] = text.split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 429 Too Many Requests\r\n/);
    expect(head).toMatch(/\r\nRetry-After: 2(\r\n|$)/);
    expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}`);
    expect(JSON.parse(body)).toMatchObject({
      type: 'urn:tocsin:error:rate-limited',
      status: 429,
      code: 'rate-limited',
    });
  });

  it('carries HSTS where the outside comes by https, and nowhere else', () => {
    const refusal = { code: 'draining', detail: 'ends' } as const;
    expect(refusalText(refusal, true)).toContain('\r\nStrict-Transport-Security: max-age=31536000\r\n');
    expect(refusalText(refusal, false)).not.toContain('Strict-Transport');
  });
});

describe('messages of a client', () => {
  it('are of the four kinds, with exactly their members', () => {
    expect(readClientMessage('{"type":"ping"}')).toEqual({ type: 'ping' });
    expect(readClientMessage('{"type":"authenticate","token":"x"}')).toEqual({ type: 'authenticate', token: 'x' });
    expect(readClientMessage('{"type":"received","offset":3}')).toEqual({ type: 'received', offset: 3 });
    expect(readClientMessage('{"type":"command-acknowledged","id":"a"}')).toEqual({
      type: 'command-acknowledged',
      id: 'a',
    });
    const bad = [
      '{"type":"ping","x":1}',
      '{"type":"received","offset":-1}',
      '{"type":"received","offset":"1"}',
      '{"type":"received","offset":1.5}',
      '{"type":"authenticate"}',
      '{"type":"other"}',
      '[]',
      'null',
      '1',
      '"ping"',
      '{"__proto__":{"type":"ping"}}',
    ];
    for (const text of bad) expect(readClientMessage(text)).toMatchObject({ type: 'problem', code: 'schema' });
    expect(readClientMessage('{')).toMatchObject({ type: 'problem', code: 'malformed-json' });
  });

  it('are never repeated in what is answered', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 12 }), (text) => {
        const read = readClientMessage(JSON.stringify({ type: text }));
        expect(JSON.stringify(read)).not.toContain(text);
      }),
    );
  });

  it('count for the limit unless they are authentication or receipts', () => {
    expect(isUncounted({ type: 'ping' })).toBe(false);
    expect(isUncounted({ type: 'received', offset: 1 })).toBe(true);
    expect(isUncounted({ type: 'authenticate', token: '' })).toBe(true);
  });
});

describe('conduct', () => {
  it('warns at the first message over the limit and closes at the next', () => {
    const conduct = new Conduct(5);
    expect(Array.from({ length: 7 }, () => conduct.message(false, 0))).toEqual([
      ...Array<string>(5).fill('accept'),
      'warn',
      'close',
    ]);
  });

  it('forgives once the client has slowed down', () => {
    const conduct = new Conduct(5);
    for (let n = 0; n < 6; n++) conduct.message(false, 0);
    expect(conduct.message(false, 10_000)).toBe('accept');
    for (let n = 0; n < 4; n++) conduct.message(false, 10_000);
    expect(conduct.message(false, 10_001)).toBe('warn');
  });

  it('does not count receipts, but bounds them too', () => {
    const conduct = new Conduct(5);
    const verdicts = Array.from({ length: UNCOUNTED_MOST + 7 }, () => conduct.message(true, 0));
    expect(verdicts.filter((verdict) => verdict === 'accept')).toHaveLength(UNCOUNTED_MOST + 5);
    expect(verdicts.slice(-2)).toEqual(['warn', 'close']);
  });

  it('closes at the second error within a minute, not later', () => {
    const conduct = new Conduct(5);
    expect([conduct.error(0), conduct.error(60_000), conduct.error(119_999)]).toEqual(['warn', 'warn', 'close']);
  });

  it('passes on at most one receipt in 5 s, cumulative, and loses none', () => {
    const conduct = new Conduct(5);
    expect(conduct.receipt(3, 0)).toBe(3);
    expect(conduct.receipt(7, 1000)).toBeNull();
    expect(conduct.receipt(5, 2000)).toBeNull();
    expect(conduct.dueReceipt(4999)).toBeNull();
    expect(conduct.dueReceipt(5000)).toBe(7);
    expect(conduct.dueReceipt(20_000)).toBeNull();
    expect(conduct.receipt(6, 30_000)).toBeNull();
  });
});

describe('a new credential on an open connection', () => {
  const holder = { subject: 'u', deviceId: null, role: 'viewer' as const, sessionId: 's', expiresAt: 2_000_000 };
  it('must be of the same subject and device', () => {
    expect(sameHolder(holder, { ...holder, sessionId: 't' })).toBe(true);
    expect(sameHolder(holder, { ...holder, subject: 'v' })).toBe(false);
    expect(sameHolder(holder, { ...holder, deviceId: 'd' })).toBe(false);
  });

  it('is due at the setting or at its own end, whichever comes first', () => {
    expect(reauthenticationDeadline(holder, 1_000_000, 900)).toBe(1_900_000);
    expect(reauthenticationDeadline(holder, 1_500_000, 900)).toBe(2_000_000);
  });
});

describe('a flood of handshakes', () => {
  const channels = new Map([['/ws/alerts', {}]]) as unknown as WebSocketChannels;
  const request = {
    method: 'GET',
    url: '/ws/alerts',
    httpVersionMinor: 1,
    rawHeaders: ['Host', 't.example'],
    headers: { upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' },
    socket: { remoteAddress: '2001:db8:1:2:3:4:5:6' },
  } as unknown as IncomingMessage;

  function open(
    allowed: boolean,
    maxConnectionsPerAddress = 100,
  ): { readonly handshakes: Handshakes; readonly asked: string[] } {
    const asked: string[] = [];
    const refused = { code: 'rate-limited', detail: 'full' } as const;
    const options = {
      settings: {
        publicUrl: 'http://t.example',
        allowedOrigins: [],
        trustedProxies: [],
        maxConnectionsPerAddress,
      },
      door: {
        take(key: string, { burst, ratePerSecond }: BucketShape) {
          asked.push(`door ${key} ${burst} ${ratePerSecond}`);
          return { allowed, remaining: 0, retryAfterMs: allowed ? 0 : 20 };
        },
      },
    } as unknown as WebSocketOptions;
    const admission = {
      enterAddress: async (key: string) => {
        asked.push(`bus ${key}`);
        return refused;
      },
    } as unknown as Admission;
    return { handshakes: createHandshakes(options, admission), asked };
  }

  it('ends before anything that takes I/O, counted by /64, and is told when to come again', async () => {
    const { handshakes, asked } = open(false);
    expect(await handshakes.decide(request, channels, 'c', false)).toMatchObject({
      code: 'rate-limited',
      retryAfterMs: 20,
    });
    expect(asked).toEqual(['door 2001:db8:1:2::/64 1000 100']);
  });

  it('is bounded even where the connections of an address are not', async () => {
    const { handshakes, asked } = open(true, 1_000_000);
    await handshakes.decide(request, channels, 'c', false);
    expect(asked[0]).toBe('door 2001:db8:1:2::/64 1000000 100000');
  });

  it('is none while the address keeps to its pace', async () => {
    const { handshakes, asked } = open(true);
    expect(await handshakes.decide(request, channels, 'c', false)).toMatchObject({ detail: 'full' });
    expect(asked.map((line) => line.split(' ')[0])).toEqual(['door', 'bus']);
  });
});
