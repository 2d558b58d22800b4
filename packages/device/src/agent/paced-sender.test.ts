import { expect, it } from 'vitest';
import { createFakeTime } from '../fake-time.suite.ts';
import type { Sender } from '../sender.ts';
import { createPacedSender } from './paced-sender.ts';

function counting(sent: string[]): Sender {
  return {
    send: async (sealed) => {
      sent.push(sealed);
      return { kind: 'acknowledged' };
    },
    askTime: async () => null,
    close: async () => undefined,
  };
}

it('tries begin no closer to each other than the gap, the first at once', async () => {
  const time = createFakeTime(0);
  const sent: string[] = [];
  const sender = createPacedSender(counting(sent), 50, time);
  const answers = ['a', 'b', 'c'].map((text) => sender.send(text, text));
  await answers[0];
  expect(sent).toEqual(['a']);
  time.advance(49);
  await Promise.resolve();
  expect(sent).toEqual(['a']);
  time.advance(1);
  await answers[1];
  expect(sent).toEqual(['a', 'b']);
  time.advance(50);
  await answers[2];
  expect(sent).toEqual(['a', 'b', 'c']);
});

it('what waits when it is closed is not sent, and answers at once; no timer is left', async () => {
  const time = createFakeTime(0);
  const sent: string[] = [];
  const sender = createPacedSender(counting(sent), 50, time);
  await sender.send('a', 'a');
  const waiting = sender.send('b', 'b');
  await sender.close();
  expect(await waiting).toEqual({ kind: 'failed', reason: 'connection-lost' });
  expect(await sender.send('c', 'c')).toEqual({ kind: 'failed', reason: 'connection-lost' });
  expect(sent).toEqual(['a']);
  expect(time.timers()).toBe(0);
});
