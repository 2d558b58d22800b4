import { expect, test } from 'vitest';
import { createEnds } from './ends.ts';

test('what was begun last ends first, and an end that fails keeps no other from ending', async () => {
  const ended: string[] = [];
  const ends = createEnds();
  ends.add(() => ended.push('store'));
  ends.add(() => Promise.reject(new Error('bus')));
  ends.add(() => {
    throw new Error('load');
  });
  ends.add(async () => ended.push('listener'));
  await expect(ends.endAll()).rejects.toThrow('load');
  expect(ended).toEqual(['listener', 'store']);
  await ends.endAll();
  expect(ended).toHaveLength(2);
});
