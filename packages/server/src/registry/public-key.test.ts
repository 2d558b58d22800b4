import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keyObject, parsePublicKey, toPem } from './public-key.ts';

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const der = publicKey.export({ format: 'der', type: 'spki' });
const point = der.subarray(-65);
const pem = (key: KeyObject, type: 'spki' | 'pkcs8' | 'sec1'): string => key.export({ format: 'pem', type }) as string;

describe('a public key', () => {
  test.each([
    ['PEM', pem(publicKey, 'spki')],
    ['PEM with other line ends', pem(publicKey, 'spki').replaceAll('\n', '\r\n')],
    ['hex DER', der.toString('hex')],
    ['hex DER in capitals', der.toString('hex').toUpperCase()],
    ['hex point', point.toString('hex')],
    ['64-byte hex', point.subarray(1).toString('hex')],
    ['hex DER of the compressed point', compressed().toString('hex')],
  ])('is taken as %s, always to the same form', (_name, text) => {
    expect(parsePublicKey(text)).toEqual({ der });
  });

  test('goes out as the PEM that it came in as', () => {
    expect(toPem(der)).toBe(pem(publicKey, 'spki'));
    expect(keyObject(der).equals(publicKey)).toBe(true);
  });

  const ed = generateKeyPairSync('ed25519').publicKey;
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;
  const offCurve = Buffer.from(point.subarray(1));
  offCurve[63] = (offCurve[63] ?? 0) ^ 1;
  test.each([
    ['nothing', '', 'form'],
    ['a word', 'hello', 'form'],
    ['odd hex', 'abc', 'form'],
    ['another curve', pem(p384, 'spki'), 'form'],
    ['another kind', pem(ed, 'spki'), 'form'],
    ['another kind in hex', ed.export({ format: 'der', type: 'spki' }).toString('hex'), 'form'],
    ['two blocks', pem(publicKey, 'spki') + pem(publicKey, 'spki'), 'form'],
    ['a point off the curve', offCurve.toString('hex'), 'curve'],
    ['the point at zero', '00'.repeat(64), 'curve'],
    ['coordinates over the field', 'ff'.repeat(64), 'curve'],
    ['a private key, PKCS #8', pem(privateKey, 'pkcs8'), 'private'],
    ['a private key, SEC 1', pem(privateKey, 'sec1'), 'private'],
    ['a private key in hex', privateKey.export({ format: 'der', type: 'pkcs8' }).toString('hex'), 'private'],
    ['a private key in hex, SEC 1', privateKey.export({ format: 'der', type: 'sec1' }).toString('hex'), 'private'],
    ['a private JWK', JSON.stringify(privateKey.export({ format: 'jwk' })), 'private'],
  ])('is not %s', (_name, text, fault) => {
    expect(parsePublicKey(text)).toEqual({ fault });
  });

  test('never makes the parser throw', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uint8Array({ maxLength: 120 }).map((bytes) => Buffer.from(bytes).toString('hex')),
        ),
        (text) => {
          expect(Object.keys(parsePublicKey(text))).toHaveLength(1);
        },
      ),
    );
  });
});

function compressed(): Buffer {
  const sign = (point[64] ?? 0) % 2 === 0 ? 2 : 3;
  return Buffer.concat([
    Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
    Buffer.from([sign]),
    point.subarray(1, 33),
  ]);
}
