import { expect, test } from 'vitest';
import { createFlow } from './embedded-flow.ts';
import { movedClock } from './embedded-system.suite.ts';
import type { MqttMessage, MqttVerdict } from './message.ts';

const ACKNOWLEDGE: MqttVerdict = { kind: 'acknowledge' };
const message = (topic: string): MqttMessage => ({ topic, payload: Buffer.alloc(0), traceparent: null });

test('messages of a device are taken one after the other, of several at once, and are answered in the order they came', async () => {
  const asked: string[] = [];
  const decide = new Map<string, (verdict: MqttVerdict) => void>();
  const answered: string[] = [];
  const flow = createFlow({
    clock: movedClock(),
    kept: () => undefined,
    cut: () => void answered.push('cut'),
    take: ({ topic }) => {
      asked.push(topic);
      return new Promise((resolve) => decide.set(topic, resolve));
    },
  });
  for (const topic of ['a1', 'a2', 'b1'])
    flow.accept(topic.charAt(0), message(topic), 1, () => void answered.push(topic));
  flow.pass(() => void answered.push('dropped'));
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  await turn();
  expect(asked).toEqual(['a1', 'b1']);
  decide.get('b1')?.(ACKNOWLEDGE);
  await turn();
  expect(answered).toEqual([]);
  decide.get('a1')?.(ACKNOWLEDGE);
  await turn();
  expect(asked).toEqual(['a1', 'b1', 'a2']);
  expect(answered).toEqual(['a1']);
  decide.get('a2')?.(ACKNOWLEDGE);
  await flow.idle();
  expect(answered).toEqual(['a1', 'a2', 'b1', 'dropped']);
});

test('what cannot be stored in the time that it is held is given up with all behind it of its device', async () => {
  const clock = movedClock();
  const asked: string[] = [];
  const answered: string[] = [];
  let kept = 0;
  const flow = createFlow({
    clock,
    kept: (bytes) => void (kept += bytes),
    cut: () => void answered.push('cut'),
    take: async ({ topic }) => {
      asked.push(topic);
      clock.move(19_990);
      return { kind: 'later', retryAfterMs: 1 };
    },
  });
  flow.accept('a', message('a1'), 1, () => void answered.push('a1'));
  flow.accept('a', message('a2'), 1, () => void answered.push('a2'));
  expect(kept).toBe(4);
  await flow.idle();
  expect(kept).toBe(0);
  expect(asked).toEqual(['a1']);
  expect(answered).toEqual(['cut', 'cut']);
});
