import { expect } from 'vitest';
import { describeWith } from './needs.ts';
import { startCaddy } from './web-proxy.ts';
import { describeProxy } from './web-proxy.suite.ts';

describeWith(['caddy', 'redis'], 'the example for Caddy', () => {
  describeProxy('Caddy', startCaddy, ({ status }) => expect([502, 503]).toContain(status));
});
