import { describe, expect, test } from 'vitest';
import { addressKey, createAddressReader, plainAddress } from './address.ts';

describe('the address of a peer', () => {
  const read = createAddressReader(['10.0.0.0/8', '2001:db8::1', '127.0.0.1']);

  test.each([
    ['a stranger is who it is, whatever it writes', '198.51.100.1', '1.2.3.4', '198.51.100.1'],
    ['a trusted proxy is believed', '10.0.0.1', '203.0.113.7', '203.0.113.7'],
    ['only the right end counts', '10.0.0.1', '1.2.3.4, 203.0.113.7', '203.0.113.7'],
    ['a chain of trusted proxies is walked', '127.0.0.1', '203.0.113.7, 10.2.3.4', '203.0.113.7'],
    ['IPv4 in IPv6 is IPv4', '::ffff:10.0.0.1', '203.0.113.7', '203.0.113.7'],
    ['a trusted IPv6 proxy is believed', '2001:db8::1', '2001:db8::2', '2001:db8::2'],
    ['text that is no address ends the walk', '10.0.0.1', 'wat', '10.0.0.1'],
    ['an empty header says nothing', '10.0.0.1', '', '10.0.0.1'],
  ])('%s', (_rule, remote, forwarded, address) => {
    expect(read(remote, forwarded)).toBe(address);
  });

  test('without a list nobody is believed', () => {
    expect(createAddressReader([])('127.0.0.1', '1.2.3.4')).toBe('127.0.0.1');
  });

  test('is written in one way', () => {
    expect([plainAddress('::FFFF:1.2.3.4'), plainAddress('fe80::1%eth0'), plainAddress('1.2.3.4')]).toEqual([
      '1.2.3.4',
      'fe80::1',
      '1.2.3.4',
    ]);
  });

  test.each([
    ['1.2.3.4', '1.2.3.4'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['2001:0db8:0001:0002::9', '2001:db8:1:2::/64'],
    ['64:ff9b::1.2.3.4', '64:ff9b:0:0::/64'],
  ])('%s counts as %s', (address, key) => {
    expect(addressKey(address)).toBe(key);
  });
});
