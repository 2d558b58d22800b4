import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alertOf, noticeFor } from '../notices.suite.ts';
import { isPublicAddress } from './addresses.ts';
import { eventOf } from './event.ts';
import { readWebhookSecret, signWebhook } from './signature.ts';

describe('addresses that a webhook may reach', () => {
  it.each([
    '1.1.1.1',
    '93.184.216.34',
    '172.15.255.255',
    '172.32.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '192.0.1.1',
    '223.255.255.255',
    '2606:4700::1111',
    '2a00:1450:4001::1',
    '::ffff:8.8.8.8',
    '64:ff9b::8.8.8.8',
  ])('%s is one', (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });

  it.each([
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '100.100.100.200',
    '127.0.0.1',
    '127.255.255.254',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:0:10.0.0.1',
    '64:ff9b::10.0.0.1',
    '64:ff9b:1::808:808',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::1',
    '3fff::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    '0x7f.1',
    '2130706433',
    'localhost',
    '',
  ])('%s is none', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  /** The same table as ranges of numbers, written independently. */
  const inside = (a: number, b: number, c: number, d: number): boolean => {
    const whole = ((a * 256 + b) * 256 + c) * 256 + d;
    const within = (first: string, bits: number): boolean => {
      const base = first.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
      return whole >= base && whole < base + 2 ** (32 - bits);
    };
    return [
      ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '168.63.129.16/32', '169.254.0.0/16'],
      ...['172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15'],
      ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/3'],
    ].some((range) => within(range.split('/')[0] ?? '', Number(range.split('/')[1])));
  };
  const first = fc.oneof(fc.nat(255), fc.constantFrom(0, 10, 100, 127, 168, 169, 172, 192, 198, 203, 224, 240));
  const bytes = fc.tuple(
    first,
    fc.oneof(fc.nat(255), fc.constantFrom(0, 16, 31, 63, 64, 88, 127, 168, 254)),
    fc.nat(255),
    fc.nat(255),
  );

  it('are the same in IPv4 and in every IPv6 form that leads to it', () => {
    fc.assert(
      fc.property(bytes, ([a, b, c, d]) => {
        const dotted = `${a}.${b}.${c}.${d}`;
        const hex = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
        const expected = !inside(a, b, c, d);
        for (const form of [dotted, `::ffff:${dotted}`, `::ffff:${hex}`, `0:0:0:0:0:ffff:${hex}`, `64:ff9b::${hex}`]) {
          expect([form, isPublicAddress(form)]).toEqual([form, expected]);
        }
        for (const form of [`::${hex}`, `2002:${hex}::1`, `fe80::${hex}`, `fd00::${hex}`]) {
          expect([form, isPublicAddress(form)]).toEqual([form, false]);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('are none outside of global unicast', () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const head = Number.parseInt(address.split(':')[0] || '0', 16);
        if (head < 0x2000 || head > 0x3fff) {
          const leads = /^(?:0*:){0,6}:?ffff:|^(?:64|0064):ff9b:/i.test(address);
          if (!leads) expect([address, isPublicAddress(address)]).toEqual([address, false]);
        }
      }),
    );
  });
});

describe('the signature of a webhook', () => {
  // From the reference libraries of Standard Webhooks.
  const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const SIGNATURE = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';
  const signed = (...secrets: string[]): string =>
    signWebhook(
      secrets.map((text) => readWebhookSecret(text) ?? Buffer.alloc(0)),
      'msg_p5jXN8AQM9LWM0D4loKWxJek',
      1_614_265_330,
      '{"test": 2432232314}',
    );

  it('is that of the reference', () => {
    expect(signed(SECRET)).toBe(SIGNATURE);
  });

  it('is one for each secret', () => {
    const other = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
    expect(signed(other, SECRET).split(' ')).toEqual([signed(other), SIGNATURE]);
  });

  it.each([
    '',
    'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    'whsec_',
    'whsec_c2hvcnQ=',
    'whsec_!!!!',
    `whsec_${'A'.repeat(100)}`,
  ])('has no secret in %j', (text) => {
    expect(readWebhookSecret(text)).toBeUndefined();
  });
});

describe('the event of a notice', () => {
  it('is a CloudEvent that holds the alert byte for byte', () => {
    const alert = alertOf({ revision: 2 });
    const body = `{ "id" : ${JSON.stringify(alert.id)} }`;
    const text = eventOf({ ...noticeFor(alert, 'updated'), body }, 'https://tocsin.example.org');
    expect(text).toContain(`"data":${body}}`);
    expect(JSON.parse(text)).toEqual({
      specversion: '1.0',
      id: `${alert.id}.2`,
      source: 'https://tocsin.example.org',
      type: 'tocsin.alert.updated',
      subject: alert.id,
      time: '2026-11-28T19:30:00.000Z',
      datacontenttype: 'application/json',
      data: { id: alert.id },
    });
  });
});
