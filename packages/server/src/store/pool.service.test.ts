import { expect, test } from 'vitest';
import { openTestDatabase } from '@tocsin/testkit/database';

test('bigint arrives as a number, alone and in arrays', async () => {
  const { db, close } = await openTestDatabase();
  expect(await db.query('SELECT 5::bigint AS a, ARRAY[1,NULL,3]::bigint[] AS b, count(*) AS c FROM zones')).toEqual([
    { a: 5, b: [1, null, 3], c: 0 },
  ]);
  await close();
});
