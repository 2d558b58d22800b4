import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../ops/logging.ts';
import { readSettings } from '../settings.ts';
import { SettingsError, UsageError } from './exit-codes.ts';
import { offerDemo, readDemo } from './serve-demo.ts';
import { readSimulateOptions } from './simulate-options.ts';

const read = (text: string): ReturnType<typeof readSimulateOptions> =>
  readSimulateOptions(text === '' ? [] : text.split(' '));

describe('the arguments of simulate', () => {
  it('without any are a fleet below the default limits, without attacks', () => {
    expect(read('')).toMatchObject({
      ...{ server: null, seismic: 100, hosts: 0, zones: 1, ratePerSecond: 40, seconds: 30, arrival: 'poisson' },
      ...{ attacks: [], attackShare: 0, earthquakes: 0, processes: 1, keep: false, json: false },
    });
  });

  it('say what a fleet is and does', () => {
    const text =
      '--devices 5000 --rate 1000.5 --duration 10 --profile mixed --host-share 20 --attack stale,replay --attack-share 25 ' +
      '--earthquakes 2 --every 4 --readings 5 --arrival regular --seed x --connections 9 --processes 2 --server https://h:1/';
    expect(read(text)).toMatchObject({
      ...{ seismic: 4000, hosts: 1000, zones: 20, ratePerSecond: 1000.5, seconds: 10, arrival: 'regular', readings: 5 },
      ...{ attacks: ['replay', 'stale'], attackShare: 0.25, earthquakes: 2, everySeconds: 4, seed: 'x' },
      ...{ connections: 9, processes: 2, server: 'https://h:1' },
    });
    expect(read('--waveform')).toMatchObject({ waveform: true, ratePerSecond: 0 });
    expect(read('--waveform --profile mixed --rate 5')).toMatchObject({ waveform: true, ratePerSecond: 5 });
  });

  it.each([
    '--devices 0',
    '--devices 1.5',
    '--devices many',
    '--rate -1',
    '--rate 1e9',
    '--duration 0',
    '--attack replay,sneeze',
    '--attack-share 10',
    '--attack replay --attack-share 101',
    '--profile toaster',
    '--host-share 10',
    '--profile host --waveform',
    '--waveform --rate 5',
    '--waveform --attack stale',
    '--waveform --earthquakes 1',
    '--profile host --earthquakes 1',
    '--arrival never',
    '--server 127.0.0.1:8080',
    '--server http://user@h',
    '--server http://h/path',
    '--password-stdin',
    '--readings 501',
    '--api-key secret',
    'stray',
  ])('refuse %s', (text) => {
    expect(() => read(text)).toThrow(UsageError);
  });
});

describe('the arguments of serve', () => {
  it('name a demo and its pace', () => {
    expect([readDemo([]), readDemo(['--demo']), readDemo(['--demo', '--demo-every', '30'])]).toEqual([null, 180, 30]);
  });

  it.each([['--demo-every 30'], ['--demo --demo-every 5'], ['--demo --demo-every x'], ['--loud']])(
    'refuse %s',
    (text) => {
      expect(() => readDemo(text.split(' '))).toThrow(UsageError);
    },
  );

  it.each([{ NODE_ENV: 'production', GRPC_PORT: 'off' }, { ROLES: 'worker' }])('are no demo with %j', (env) => {
    const outcome = readSettings(env, '/nowhere');
    if ('mistakes' in outcome) throw new Error(outcome.mistakes.join());
    expect(() => offerDemo(outcome.settings, silentLogger, 180)).toThrow(SettingsError);
  });
});
