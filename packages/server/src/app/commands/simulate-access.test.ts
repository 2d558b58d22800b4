import { expect, it } from 'vitest';
import { readSettings, type Settings } from '../settings.ts';
import { isOwn, missingCredentials, ownOrigin } from './simulate-access.ts';

function settings(env: Record<string, string>): Settings {
  const outcome = readSettings(env, '/nowhere');
  if ('mistakes' in outcome) throw new Error(outcome.mistakes.join());
  return outcome.settings;
}

it('the server of the settings is reached where it listens, on this machine when that is everywhere', () => {
  expect(ownOrigin(settings({}))).toBe('http://127.0.0.1:8080');
  expect(ownOrigin(settings({ HOST: '0.0.0.0', PORT: '9' }))).toBe('http://127.0.0.1:9');
  expect(ownOrigin(settings({ HOST: '::' }))).toBe('http://[::1]:8080');
});

it('only a server of this machine gets credentials that are made beside it', () => {
  const own = settings({ HOST: '192.0.2.7' });
  expect(isOwn('http://localhost:1', own)).toBe(true);
  expect(isOwn('http://[::1]:1', own)).toBe(true);
  expect(isOwn('http://192.0.2.7:8080', own)).toBe(true);
  expect(isOwn('https://tocsin.example.org', own)).toBe(false);
});

it('what is missing for another machine is named', () => {
  const operator = { email: 'a@example.org', password: 'secret' };
  expect(missingCredentials({ apiKey: null, operator: null }).message).toContain('API_KEY) and an operator (--email');
  const message = missingCredentials({ apiKey: null, operator }).message;
  expect(message).not.toContain('operator');
  expect(message).not.toContain('secret');
});
