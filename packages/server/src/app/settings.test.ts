import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { outsideAddress } from './settings-checks.ts';
import { SETTINGS } from './settings-table.ts';
import { type Environment, type Settings, readSettings } from './settings.ts';

const WHSEC = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'tocsin-settings-'));
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

function good(env: Environment): Settings {
  const outcome = readSettings(env, cwd);
  if ('mistakes' in outcome) throw new Error(outcome.mistakes.join('\n'));
  return outcome.settings;
}

function mistakes(env: Environment): readonly string[] {
  const outcome = readSettings(env, cwd);
  return 'mistakes' in outcome ? outcome.mistakes : [];
}

describe('settings', () => {
  it('are complete and as documented when nothing is given', () => {
    const settings = good({});
    expect(settings).toMatchObject({
      host: '127.0.0.1',
      port: 8080,
      publicUrl: null,
      trustedProxies: [],
      dataDir: join(cwd, 'data'),
      databaseUrl: null,
      logBackend: 'store',
      roles: ['gateway', 'worker', 'bridge'],
      rateLimitBurst: null,
      rateLimitGlobal: null,
      swarmSensors: 50,
      grpcPort: 50_051,
      jwtAlgorithm: 'ES256',
      logLevel: 'info',
      production: false,
    });
    expect(Object.keys(settings).sort()).toEqual(Object.keys(SETTINGS).sort());
  });

  it('name each variable once', () => {
    const names = Object.values(SETTINGS).map((row) => row.name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('come from .env, but the environment wins, and an empty text is absent', () => {
    writeFileSync(join(cwd, '.env'), 'PORT=9001\nHOST=0.0.0.0\nSWARM_SENSORS=5\n');
    expect(good({ PORT: '9002', HOST: '', SWARM_SENSORS: '  ' })).toMatchObject({
      port: 9002,
      host: '0.0.0.0',
      swarmSensors: 5,
    });
  });

  it('tell all mistakes at once, one line each, naming the variable and what it may be', () => {
    writeFileSync(join(cwd, '.env'), 'nonsense\nPORT=eighty\n');
    const lines = mistakes({
      SWARM_SENSORS: '-1',
      WS_PUBLIC_ALERTS: 'maybe',
      ROLES: 'gateway,king',
      JWT_ALGORITHM: 'none',
    });
    expect(lines).toEqual([
      '.env line 1 must be NAME=value, a comment or empty',
      'PORT must be a whole number from 0 to 65535, not "eighty"',
      'ROLES must be a list separated by commas, each gateway or worker or bridge, not "gateway,king"',
      'SWARM_SENSORS must be a whole number from 1 to 1000000, not "-1"',
      'JWT_ALGORITHM must be ES256 or RS256, not "none"',
      'WS_PUBLIC_ALERTS must be true or false, not "maybe"',
    ]);
    for (const line of lines) expect(line).not.toContain('\n');
  });

  it('never repeat what may be a secret', () => {
    const lines = mistakes({
      ADMIN_EMAIL: 'a@b.example',
      ADMIN_PASSWORD: 'hunter2',
      API_KEY: 'hunter2 hunter2 hunter2',
      CLUSTER_SECRET: 'hunter2',
      DATABASE_URL: 'mysql://u:hunter2@h/db',
      PUBLIC_URL: 'https://u:hunter2@h',
      SLACK_WEBHOOK_URL: 'hunter2',
      BILLING_WEBHOOK_SECRET: 'hunter2,hunter2',
      WS_AUTH_TOKEN: 'hunter2',
      REDIS_URL: 'redis://:hunter2@h/x',
      REDIS_CLUSTER_NODES: 'a:1,redis://:hunter2@b',
      REDIS_SENTINELS: 'hunter2@a:1',
      WEBHOOK_URLS: 'ftp://hunter2.example',
      WEBHOOK_SECRETS: 'hunter2',
      SMTP_URL: 'smtp://u:hunter2@h/x',
      MQTT_USERNAME: 'hunter2\u0007',
      MQTT_PASSWORD: 'hunter2\u0007',
    });
    expect(lines).toHaveLength(16);
    expect(lines.join('\n')).not.toContain('hunter2');
  });

  it('refuse an unreadable .env', () => {
    mkdirSync(join(cwd, '.env'));
    expect(mistakes({})).toEqual(['.env cannot be read (EISDIR)']);
  });

  it.each<[string, Environment, string]>([
    ['a certificate without its key', { TLS_CERT: 'pem' }, 'TLS_KEY'],
    ['a client CA without TLS', { TLS_CLIENT_CA: 'pem' }, 'TLS_CERT'],
    ['a file that is not there', { CA_CERT: 'nowhere.pem' }, 'CA_CERT'],
    ['a database without the cluster secret', { DATABASE_URL: 'postgres://h/db' }, 'CLUSTER_SECRET'],
    ['Sentinels without the name', { REDIS_SENTINELS: 'a:1,b:2' }, 'REDIS_SENTINEL_NAME'],
    [
      'a first password that is too simple',
      { ADMIN_EMAIL: 'a@b.example', ADMIN_PASSWORD: 'aaaaaaaaaaaaaa' },
      'ADMIN_PASSWORD',
    ],
    ['a client key without its certificate', { CLIENT_KEY: 'pem' }, 'CLIENT_CERT'],
    ['a password of the broker without a user name', { MQTT_PASSWORD: 'x' }, 'MQTT_USERNAME'],
    ['a back-off whose least is over its most', { MQTT_BACKOFF_MIN: '61' }, 'MQTT_BACKOFF_MIN'],
    ['a topic that names no device', { MQTT_TOPIC: 'metrics' }, 'MQTT_TOPIC'],
    ['a shared topic', { MQTT_READINGS_TOPIC: '$share/g/devices/+/readings' }, 'MQTT_READINGS_TOPIC'],
    ['topics that fit the same', { MQTT_TOPIC: 'devices/#' }, 'MQTT_READINGS_TOPIC'],
    ['gRPC in production without a client CA', { NODE_ENV: 'production' }, 'GRPC_PORT'],
    ['one port for two listeners', { PORT: '50051' }, 'GRPC_PORT'],
    ['the raw listener without a token where others reach it', { HOST: '0.0.0.0', WS_PORT: '9001' }, 'WS_AUTH_TOKEN'],
    ['a public URL with a path', { PUBLIC_URL: 'https://h.example/tocsin' }, 'PUBLIC_URL'],
    ['a proxy by name', { TRUSTED_PROXIES: 'proxy.example' }, 'TRUSTED_PROXIES'],
    ['a proxy by number of hops', { TRUSTED_PROXIES: '1' }, 'TRUSTED_PROXIES'],
    ['a CIDR that is too long', { TRUSTED_PROXIES: '10.0.0.0/33' }, 'TRUSTED_PROXIES'],
    ['an origin with a star', { WS_ALLOWED_ORIGINS: '*' }, 'WS_ALLOWED_ORIGINS'],
    ['a data folder that is a file', { DATA_DIR: 'pem' }, 'DATA_DIR'],
    ['two kinds of Redis at once', { REDIS_URL: 'redis://h', REDIS_CLUSTER_NODES: 'a:1' }, 'REDIS_CLUSTER_NODES'],
    ['a Redis with a query', { REDIS_URL: 'redis://h?enableOfflineQueue=true' }, 'REDIS_URL'],
    ['a node of Redis without a port', { REDIS_CLUSTER_NODES: 'a:1,b' }, 'REDIS_CLUSTER_NODES'],
    ['the log on Redis without one', { LOG_BACKEND: 'redis' }, 'LOG_BACKEND'],
    ['webhooks without a secret', { WEBHOOK_URLS: 'https://h.example' }, 'WEBHOOK_SECRETS'],
    ['a webhook without https', { WEBHOOK_URLS: 'http://h.example', WEBHOOK_SECRETS: WHSEC }, 'WEBHOOK_ALLOW_PRIVATE'],
    ['a webhook to this host', { WEBHOOK_URLS: 'https://127.1/', WEBHOOK_SECRETS: WHSEC }, 'WEBHOOK_ALLOW_PRIVATE'],
    ['a webhook to this host by IPv6', { WEBHOOK_URLS: 'https://[::1]/', WEBHOOK_SECRETS: WHSEC }, 'public addresses'],
    [
      'too many webhooks',
      { WEBHOOK_URLS: Array.from({ length: 21 }, (_, n) => `https://h${n}.example`).join(','), WEBHOOK_SECRETS: WHSEC },
      'at most 20',
    ],
    ['a webhook secret that is none', { WEBHOOK_SECRETS: 'whsec_short' }, 'whsec_'],
    ['a mail server without recipients', { SMTP_URL: 'smtp://h', EMAIL_FROM: 'a@b.example' }, 'EMAIL_TO'],
    ['a mail server without a sender', { SMTP_URL: 'smtp://h', EMAIL_TO: 'a@b.example' }, 'EMAIL_FROM'],
    ['recipients without a mail server', { EMAIL_TO: 'a@b.example' }, 'SMTP_URL'],
    [
      'too many recipients',
      { EMAIL_TO: Array.from({ length: 51 }, (_, n) => `a${n}@b.example`).join(',') },
      'at most 50',
    ],
    ['a mail server that is a web server', { SMTP_URL: 'https://h' }, 'smtp'],
    ['a severity that is none', { SLACK_MIN_SEVERITY: 'bad' }, 'extreme or severe'],
    ['a clock skew over 30 s', { JWT_CLOCK_SKEW_SECONDS: '31' }, 'JWT_CLOCK_SKEW_SECONDS'],
  ])('refuse %s', (_rule, env, name) => {
    writeFileSync(join(cwd, 'pem'), '-----BEGIN CERTIFICATE-----\n');
    const lines = mistakes(env);
    expect(lines).not.toEqual([]);
    expect(lines.join('\n')).toContain(name);
  });

  it('do not complain twice about one variable', () => {
    expect(mistakes({ TLS_CERT: 'nowhere', CLUSTER_SECRET: 'short', DATABASE_URL: 'postgres://h/db' })).toHaveLength(2);
  });

  it('refuse a certificate file that holds no certificate', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(join(cwd, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    expect(mistakes({ TLS_CERT: 'key.pem', TLS_KEY: 'key.pem' })).toEqual([
      'TLS_CERT must hold a certificate and TLS_KEY its private key, without a passphrase',
    ]);
  });

  it('are warned about when their part is not in this release', () => {
    const outcome = readSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', GRPC_PORT: '6000' }, cwd);
    expect('warnings' in outcome ? outcome.warnings : []).toHaveLength(2);
    const quiet = readSettings({ GRPC_PORT: 'off' }, cwd);
    expect('warnings' in quiet ? quiet.warnings : ['?']).toEqual([]);
  });

  it('are warned about when they speak of the embedded broker and there is an outside one', () => {
    const warnings = (port: string): readonly string[] => {
      const outcome = readSettings({ MQTT_BROKER: 'broker.example', MQTT_EMBEDDED_PORT: port }, cwd);
      return 'warnings' in outcome ? outcome.warnings : ['?'];
    };
    expect(warnings('1999')).toEqual([
      'MQTT_EMBEDDED_PORT has no effect: with MQTT_BROKER there is no embedded broker',
    ]);
    expect(warnings('off')).toEqual([]);
  });

  it('are warned about when readings would be accepted that nobody works off', () => {
    const warnings = (env: Environment): readonly string[] => {
      const outcome = readSettings(env, cwd);
      return 'warnings' in outcome ? outcome.warnings : ['?'];
    };
    expect(warnings({ ROLES: 'gateway' })).toEqual([expect.stringContaining('ROLES has no worker')]);
    expect(warnings({ ROLES: 'gateway', REDIS_URL: 'redis://h' })).toEqual([]);
    expect(warnings({ ROLES: 'worker' })).toEqual([]);
  });

  it('accept what the contract names', () => {
    const settings = good({
      LOG_LEVEL: 'WARNING',
      MQTT_EMBEDDED_PORT: 'off',
      RATE_LIMIT_GLOBAL: '1000',
      TRUSTED_PROXIES: '10.0.0.0/8, 2001:db8::/32,127.0.0.1',
      PUBLIC_URL: 'https://Tocsin.example.org:443/',
      PORT: '0',
      API_KEY: 'test-key-0123456',
      ACCESS_TOKEN_MINUTES: '0.05',
    });
    expect(settings).toMatchObject({
      logLevel: 'warn',
      mqttEmbeddedPort: null,
      rateLimitGlobal: 1000,
      trustedProxies: ['10.0.0.0/8', '2001:db8::/32', '127.0.0.1'],
      publicUrl: 'https://tocsin.example.org',
      port: 0,
    });
  });

  it('know whether the port of the embedded broker was given', () => {
    expect(good({}).mqttEmbeddedPort).toEqual({ port: 1883, given: false });
    expect(good({ MQTT_EMBEDDED_PORT: '' }).mqttEmbeddedPort).toEqual({ port: 1883, given: false });
    expect(good({ MQTT_EMBEDDED_PORT: '1883' }).mqttEmbeddedPort).toEqual({ port: 1883, given: true });
    expect(good({ MQTT_EMBEDDED_PORT: '0' }).mqttEmbeddedPort).toEqual({ port: 0, given: true });
    expect(good({ MQTT_EMBEDDED_PORT: 'off' }).mqttEmbeddedPort).toBeNull();
  });

  it.each([
    'postgres://h/db',
    'postgresql://u:p%40@h1:5432/db?sslmode=require',
    'postgres://u:p@/db?host=/run/postgresql',
    'postgres:///db',
  ])('take the database at %s', (url) => {
    expect(good({ DATABASE_URL: url, CLUSTER_SECRET: 'c'.repeat(32) }).databaseUrl).toBe(url);
  });

  it('derive issuer and origins from the public URL, and that from the port that the listener got', () => {
    expect(outsideAddress(good({ PORT: '0', HOST: '::1' }), 4711)).toEqual({
      publicUrl: 'http://[::1]:4711',
      jwtIssuer: 'http://[::1]:4711',
      wsAllowedOrigins: ['http://[::1]:4711'],
    });
    expect(outsideAddress(good({ PUBLIC_URL: 'https://a.example', JWT_ISSUER: 'me' }), 1)).toEqual({
      publicUrl: 'https://a.example',
      jwtIssuer: 'me',
      wsAllowedOrigins: ['https://a.example'],
    });
  });

  it('take any text without throwing, and what is taken is well-formed', () => {
    const names = Object.values(SETTINGS).map((row) => row.name);
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.oneof(fc.string(), fc.webUrl(), fc.ipV6(), fc.float().map(String)),
        (name, text) => {
          const outcome = readSettings({ [name]: text }, cwd);
          if ('mistakes' in outcome) {
            expect(outcome.mistakes.length).toBeGreaterThan(0);
            for (const line of outcome.mistakes) expect(line).not.toMatch(/[\r\n]/);
          } else {
            for (const value of Object.values(outcome.settings)) expect(value).not.toBeNaN();
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('give numbers that lie within the bounds of their row', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (number) => {
        const parsed = SETTINGS.cpuAlertPercent.type.parse(String(number), cwd);
        if (parsed !== undefined) {
          // Text has no -0.
          expect(parsed).toBe(number + 0);
          expect(parsed).toBeGreaterThanOrEqual(0);
          expect(parsed).toBeLessThanOrEqual(100);
        }
      }),
    );
  });
});
