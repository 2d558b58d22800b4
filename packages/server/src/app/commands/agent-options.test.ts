import { describe, expect, it } from 'vitest';
import { AGENT_ARGUMENTS, AGENT_USAGE, readAgentOptions } from './agent-options.ts';

const MACHINE = { hostname: 'Web 1.example', home: '/home/ada' };
const SERVER = ['--server', 'mqtts://broker.example'];
const read = (args: readonly string[], env: Record<string, string> = {}): ReturnType<typeof readAgentOptions> =>
  readAgentOptions(args, env, MACHINE);

describe('the options of the agent', () => {
  it('have defaults for all but the server', () => {
    expect(read(SERVER)).toEqual({
      ...{ server: { by: 'mqtt', url: 'mqtts://broker.example' }, id: 'Web-1.example', intervalMs: 5000, disk: '/' },
      ...{ folder: '/home/ada/.tocsin-agent', keep: 20_000, signs: false, user: null, passwordFile: null },
      ...{ apiKeyFile: null, ca: null, cert: null, clientKey: null, clientId: null, topicPrefix: null },
      ...{ clockUrl: null, allowInsecure: false, once: false, json: false },
    });
  });

  it('take the folder of the unit, the first where systemd names several', () => {
    expect(read(SERVER, { STATE_DIRECTORY: '/var/lib/a:/var/lib/b' }).folder).toBe('/var/lib/a');
    expect(read([...SERVER, '--folder', 'x'], { STATE_DIRECTORY: '/var/lib/a' }).folder).toBe('x');
  });

  it.each([
    ['mqtt://h', 'mqtt'],
    ['mqtts://h:1', 'mqtt'],
    ['http://h', 'http'],
    ['https://h/base', 'http'],
  ])('know the way to %s: %s', (url, by) => {
    expect(read(['--server', url, '--key']).server).toEqual({ by, url });
  });

  it('need no server to show the key', () => {
    expect(read(['--show-key'])).toMatchObject({ server: null });
  });

  it.each([
    [[], '--server is missing'],
    [['--server', 'broker.example'], '--server must begin with'],
    [['--server', 'ws://broker.example'], '--server must begin with'],
    [['--server', 'https://tocsin.example'], 'add --key'],
    [['--server', 'https://tocsin.example', '--key', '--user', 'x'], '--user is for MQTT'],
    [[...SERVER, '--id', 'ä'], '--id must be'],
    [[...SERVER, '--interval', '0.5'], '--interval must be a number from 1 to 3600'],
    [[...SERVER, '--keep', '1.5'], '--keep must be a whole number'],
    [[...SERVER, '--folder', ''], '--folder must be a path'],
    [[...SERVER, '--client-key', 'x'], 'go together'],
    [[...SERVER, '--password', 'secret'], "Unknown option '--password'"],
    [[...SERVER, 'more'], 'unexpected argument'],
  ])('refuse %j: %s', (args, message) => {
    expect(() => read(args)).toThrow(message);
  });

  it('want an id where the name of the machine says nothing', () => {
    const nameless = { hostname: 'localhost', home: '/' };
    expect(() => readAgentOptions(SERVER, {}, nameless)).toThrow('give it an --id');
    expect(readAgentOptions([...SERVER, '--id', 'a'], {}, nameless).id).toBe('a');
  });

  it('never take a secret as an argument, and are all in the help', () => {
    for (const { name, value } of AGENT_ARGUMENTS) {
      expect(AGENT_USAGE).toContain(`--${name}`);
      if (/password|secret|api-key/.test(name)) expect(value).toBe('<file>');
    }
  });
});
