import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAlternativeNames } from './client-certificate.ts';

describe('subject alternative names as Node writes them', () => {
  test('are told apart by kind', () => {
    expect(
      readAlternativeNames(
        'DNS:a.example, email:a@b.example, IP Address:127.0.0.1, URI:urn:tocsin:user:1, email:c@d.example, othername:<unsupported>',
      ),
    ).toEqual({ emails: ['a@b.example', 'c@d.example'], uris: ['urn:tocsin:user:1'] });
    expect(readAlternativeNames('')).toEqual({ emails: [], uris: [] });
  });

  test('cannot pretend to be two: what is doubtful is one JSON string', () => {
    expect(readAlternativeNames('DNS:"a, email:admin@b.example", email:"x\\u0000y"')).toEqual({
      emails: ['x\u0000y'],
      uris: [],
    });
    const value = fc.string({ minLength: 1 });
    fc.assert(
      fc.property(value, value, (name, host) => {
        const text = `DNS:${JSON.stringify(host)}, email:${JSON.stringify(name)}`;
        expect(readAlternativeNames(text)).toEqual({ emails: [name], uris: [] });
      }),
    );
  });

  test('written in another way are none at all', () => {
    for (const text of ['email', 'email:"a', 'email:a"b', 'email:"\\x"', 'email:a,b', ', email:a'])
      expect(readAlternativeNames(text)).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => void readAlternativeNames(text)));
  });
});
