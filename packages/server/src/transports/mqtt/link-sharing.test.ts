import { expect, test } from 'vitest';
import { forgetsShares } from './link-sharing.ts';

test.each([
  ['mosquitto version 2.0.11', true],
  ['mosquitto version 2.0.9', true],
  ['mosquitto version 1.6.12', true],
  ['mosquitto version 1.99.99', true],
  ['mosquitto version 2.0', true],
  ['Mosquitto version 2.0.11-1+deb12u1', true],
  ['mosquitto version 2.0.12', false],
  ['mosquitto version 2.0.18', false],
  ['mosquitto version 2.1.0', false],
  ['mosquitto version 2.1', false],
  ['mosquitto version 3.0.0', false],
  ['mosquitto version 10.0.0', false],
])('%s: forgets shared subscriptions at its restart: %s', (version, forgets) => {
  expect(forgetsShares(version)).toBe(forgets);
});

test.each([null, '', 'HiveMQ 1.0.0', '5.8.1', 'mosquitto version unknown', 'not mosquitto version 1.0.0'])(
  '%s is not taken for a broker that forgets them',
  (version) => {
    expect(forgetsShares(version)).toBe(false);
  },
);
