import { expect, test } from 'vitest';
import { ANEW_MS, createVersionChoice } from './link-version.ts';

test('5 is spoken first; a broker that refuses it is spoken to in 3.1.1, and in 5 again after an hour', () => {
  const choice = createVersionChoice();
  expect(choice.next(0)).toBe(5);
  choice.report(5, 'refused', 10);
  expect(choice.next(11)).toBe(4);
  choice.report(4, 'spoken', 20);
  expect(choice.next(10 + ANEW_MS - 1)).toBe(4);
  expect(choice.next(10 + ANEW_MS)).toBe(5);
});

test('two ends without an answer in a row lead to 3.1.1, which is kept when it works', () => {
  const choice = createVersionChoice();
  choice.report(5, 'closed', 0);
  expect(choice.next(0)).toBe(5);
  choice.report(5, 'closed', 1);
  expect(choice.next(1)).toBe(4);
  choice.report(4, 'spoken', 2);
  expect(choice.next(3)).toBe(4);
});

test('a broker that answers neither is asked in 5 again', () => {
  const choice = createVersionChoice();
  choice.report(5, 'closed', 0);
  choice.report(5, 'closed', 1);
  choice.report(4, 'closed', 2);
  expect(choice.next(2)).toBe(5);
});

test('one that spoke 5 is not doubted because connections end early', () => {
  const choice = createVersionChoice();
  choice.report(5, 'spoken', 0);
  for (let n = 0; n < 5; n += 1) choice.report(5, 'closed', n);
  expect(choice.next(9)).toBe(5);
});

test('one that refuses 3.1.1 is spoken to in 5', () => {
  const choice = createVersionChoice();
  choice.report(5, 'refused', 0);
  choice.report(4, 'refused', 1);
  expect(choice.next(2)).toBe(5);
});

test('failures that say nothing about the version change nothing', () => {
  const choice = createVersionChoice();
  choice.report(5, 'closed', 0);
  choice.report(5, 'other', 1);
  choice.report(5, 'closed', 2);
  expect(choice.next(2)).toBe(4);
});
