import { describe, expect, test } from 'vitest';
import { sample } from '../../store/postgres/log.suite.ts';
import { complaintOf, parseInfo } from './log-check.ts';
import {
  daysToForget,
  daysToLook,
  digestText,
  envelopeMeta,
  idOf,
  parseDigest,
  parseId,
  parseRecord,
} from './log-record.ts';

const DAY_MS = 86_400_000;

describe('records in Redis', () => {
  test('a record comes back as it was written, line breaks in its body included', () => {
    const envelope = { ...sample('d-1', 'e'), body: 'two\nlines' };
    const { partition, kind, receivedAt, traceparent, context, body } = envelope;
    expect(parseRecord(3, `12-0 ${envelopeMeta(envelope)}\n${body}`)).toEqual({
      ...{ partition, kind, receivedAt, traceparent, context, body },
      offset: 12,
      key: 'd-1',
    });
  });

  test('an id and a digest come back as they were written', () => {
    const { deviceId, envelopeId, digest } = sample('a', 'b');
    expect(parseId(idOf({ deviceId, envelopeId }))).toEqual({ deviceId, envelopeId });
    expect(parseDigest(digestText(digest))).toEqual(digest);
  });

  test('no day is forgotten before all of its ids are seven days old', () => {
    const now = 20_000 * DAY_MS + 1;
    expect(daysToForget(now)).toEqual([19_999, 19_998, 19_997]);
    expect(daysToForget(now - 1)).toEqual([19_999, 19_998, 19_997]);
    expect(daysToForget(now - 2)).toEqual([19_998, 19_997, 19_996]);
  });

  test('an id is looked for in the seven days before its arrival and in the next one', () => {
    expect(daysToLook(100).sort((a, b) => a - b)).toEqual([93, 94, 95, 96, 97, 98, 99, 100, 101]);
  });
});

describe('whether a Redis may hold the log', () => {
  const good = [
    '# Server',
    'redis_version:7.0.15',
    'tcp_port:6379',
    'aof_enabled:1',
    'maxmemory_policy:noeviction',
    'master_replid:0a1b',
  ];
  const complaint = (...changed: string[]): string | null => complaintOf(parseInfo([...good, ...changed].join('\r\n')));

  test('one that keeps what it acknowledges may', () => {
    expect(complaint()).toBeNull();
  });

  test.each([
    ['redis_version:6.2.14', 'too old'],
    ['aof_enabled:0', 'CONFIG SET appendonly yes'],
    ['maxmemory_policy:allkeys-lru', 'allkeys-lru'],
    ['master_replid:', 'replication id'],
  ])('%s is refused with how to mend it', (line, said) => {
    expect(complaint(line)).toContain(said);
  });

  test('one that may not be asked is refused', () => {
    expect(complaintOf(null)).toContain('ACL SETUSER');
  });
});
