import { CLOSE_CODES } from '@tocsin/protocol/close-codes';
import { describe, expect, test } from 'vitest';
import { codeOfBroken, endReason } from './end-reason.ts';

describe('the reason of an end', () => {
  test('by the server is the name of its close code', () => {
    for (const [name, { code }] of Object.entries(CLOSE_CODES)) expect(endReason(code, 'server')).toBe(name);
    expect(endReason(1006, 'server')).toBe('silent');
    for (const code of [1002, 1007]) expect(endReason(code, 'server')).toBe('broken');
  });

  test('by the client does not depend on the code that it chose', () => {
    for (const code of [1000, 1001, 1012, 4008, 4999]) expect(endReason(code, 'client')).toBe('left');
    expect(endReason(1006, 'client')).toBe('lost');
  });

  test('of a broken frame follows from the error', () => {
    expect(codeOfBroken(Object.assign(new Error(), { code: 'WS_ERR_INVALID_UTF8' }))).toBe(1007);
    expect(codeOfBroken(Object.assign(new Error(), { code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' }))).toBe(1009);
    expect(codeOfBroken(Object.assign(new Error(), { code: 'WS_ERR_TOO_MANY_BUFFERED_PARTS' }))).toBe(1008);
    expect(codeOfBroken(new Error())).toBe(1002);
    expect(codeOfBroken(null)).toBe(1002);
  });
});
