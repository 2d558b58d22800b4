import { ERRORS, type ErrorCode } from '@tocsin/protocol/errors';
import { describe, expect, it } from 'vitest';
import { type Answer, judge, type Verdict, verdictRows } from './verdict.ts';

function answered(status: number, code: string | null = null, named = false): Answer {
  return { kind: 'answered', status, code, named, detail: '', errors: [], retryAfterMs: null, sample: null };
}

const codesWith = (action: Verdict['action']): string[] =>
  Object.entries(ERRORS)
    .filter(([code, { status }]) => judge(answered(status, code)).action === action)
    .map(([code]) => code);

describe('the verdict on an answer', () => {
  it('is delivered for a 202 that names the envelope, for a replay, and for a PUBACK', () => {
    expect(judge(answered(202, null, true))).toEqual({ action: 'delivered', reason: 'accepted' });
    expect(judge(answered(409, 'replay'))).toEqual({ action: 'delivered', reason: 'replay' });
    expect(judge({ kind: 'acknowledged' })).toEqual({ action: 'delivered', reason: 'acknowledged' });
    expect(codesWith('delivered')).toEqual(['replay']);
  });

  it('is to sign again where only the time was wrong', () => {
    expect(codesWith('resign')).toEqual(['envelope-stale', 'envelope-future']);
  });

  it('is to wait as told where the server is busy', () => {
    for (const code of ['rate-limited', 'overloaded', 'store-unavailable', 'starting', 'draining'] as const) {
      const { status } = ERRORS[code];
      expect(judge(answered(status, code))).toEqual({ action: 'wait', reason: code, own: false });
    }
    for (const status of [429, 503]) {
      expect(judge(answered(status))).toEqual({ action: 'wait', reason: 'busy', own: false });
    }
  });

  it('is to wait and to let others pass where it may be the fault of the envelope', () => {
    expect(judge(answered(500, 'internal'))).toEqual({ action: 'wait', reason: 'internal', own: true });
    expect(judge(answered(400))).toEqual({ action: 'wait', reason: 'unexpected-answer', own: true });
    expect(judge({ kind: 'failed', reason: 'timeout' })).toEqual({ action: 'wait', reason: 'timeout', own: false });
  });

  it('is to hold everything where an operator has to act', () => {
    expect(codesWith('hold')).toEqual(
      expect.arrayContaining([
        ...['api-key-missing', 'api-key-unknown', 'scope-insufficient', 'signature-invalid', 'device-unknown'],
        ...['device-inactive', 'device-quarantined', 'device-revoked', 'device-blocked'],
      ]),
    );
    expect(judge({ kind: 'failed', reason: 'broker-refused' }).action).toBe('hold');
  });

  it('sets aside only what the server itself calls unfit', () => {
    const aside = codesWith('set-aside') as ErrorCode[];
    expect(new Set(aside.map((code) => ERRORS[code].status))).toEqual(new Set([400, 409, 413, 415, 422]));
    expect(aside.filter((code) => ERRORS[code].status === 409)).toEqual(['id-conflict']);
  });

  it('gives nothing up and takes nothing for success for any status without a code of ours', () => {
    for (let status = 100; status < 1000; status += 1) {
      for (const code of [null, 'no-such-code', 'toString', '__proto__']) {
        expect(judge(answered(status, code)).action).toBe('wait');
      }
    }
  });

  it('does not believe a code that comes with another status', () => {
    expect(judge(answered(200, 'replay')).action).toBe('wait');
    expect(judge(answered(500, 'schema')).action).toBe('wait');
    expect(judge(answered(200, null, true)).action).toBe('wait');
  });

  it('has a named reason for every row of the table, each answer once', () => {
    const rows = verdictRows();
    expect(new Set(rows.map(({ answer }) => answer)).size).toBe(rows.length);
    for (const code of Object.keys(ERRORS)) {
      expect(rows.filter(({ answer }) => answer.includes(`\`${code}\``))).toHaveLength(1);
    }
  });
});
