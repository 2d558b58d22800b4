import { expect, it } from 'vitest';
import { createProgress } from './progress.ts';
import { scriptedTerminal } from './scripted-terminal.suite.ts';

it('progress is a bar on a terminal, erased at the end', () => {
  const terminal = scriptedTerminal({ readable: true });
  const progress = createProgress(terminal, 'work', () => 0);
  progress.show(0.5, 'half');
  progress.show(7);
  progress.done('all of it');
  const [, half, full, done] = terminal.stderr().split('\r\u001B[K');
  expect(half).toBe(`work [${'#'.repeat(15)}${'.'.repeat(15)}] 50 %  half`);
  expect(full).toContain('100 %');
  expect(done).toBe('all of it\n');
});

it('progress is a plain line every 5 s elsewhere', () => {
  let now = 0;
  const terminal = scriptedTerminal();
  const progress = createProgress(terminal, 'work', () => now);
  for (; now <= 12_000; now += 500) progress.show(now / 20_000, 'note');
  progress.done('done');
  expect(terminal.stderr()).toBe('work: 25 %, note\nwork: 50 %, note\ndone\n');
});
