import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { engines } from '@tocsin/testkit/engines';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ChannelMessage, MESSAGES_KEPT, MESSAGES_KEPT_MS } from '../ports/channels.ts';
import { createChannelStore } from './channels.ts';

describe.each(engines)('channels on %s', (engine) => {
  let database: TestDatabase;
  let channels: ReturnType<typeof createChannelStore>;

  beforeAll(async () => {
    database = await openTestDatabase({ engine });
    channels = createChannelStore(database.db);
  });

  afterAll(async () => {
    await database.close();
  });

  beforeEach(async () => {
    await database.db.execute('TRUNCATE channel_messages');
    await database.db.execute('UPDATE channels SET head = 0');
  });

  const message = (offset: number): ChannelMessage => ({
    channel: 'alerts',
    offset,
    type: 'alert',
    zoneId: null,
    severity: 4,
    createdAt: 1000 + offset,
    body: `{"offset":${offset},"text":"€ \\" \\\\ ,{}"}`,
  });

  const write = (count: number): Promise<number> =>
    database.db.transaction(async (tx) => {
      const first = await channels.take(tx, 'alerts', count);
      for (let offset = first; offset < first + count; offset += 1) {
        const { channel, type, zoneId, severity, createdAt, body } = message(offset);
        await tx.execute(
          `INSERT INTO channel_messages (channel, "offset", type, zone_id, severity, created_at, body)
           VALUES ($1, $2, $3, $4, $5, $6, $7)`,
          [channel, offset, type, zoneId, severity, createdAt, body],
        );
      }
      return first;
    });

  /** Fills the channel by one statement; `createdAt` as SQL of the offset. */
  const fill = async (count: number, createdAt: string): Promise<void> => {
    await database.db.execute(
      `INSERT INTO channel_messages (channel, "offset", type, severity, created_at, body)
       SELECT 'alerts', n, 'alert', 0, ${createdAt}, '{}' FROM generate_series(1, $1::integer) n`,
      [count],
    );
    await database.db.execute(`UPDATE channels SET head = $1 WHERE channel = 'alerts'`, [count]);
  };

  const offsets = async (): Promise<{ least: number; most: number; count: number }> => {
    const [row] = await database.db.query<{ least: number; most: number; count: number }>(
      'SELECT min("offset") AS least, max("offset") AS most, count(*) AS count FROM channel_messages',
    );
    return row ?? { least: 0, most: 0, count: 0 };
  };

  const trimAll = async (now: number): Promise<number> => {
    let all = 0;
    for (let gone = await channels.trim('alerts', now); gone > 0; gone = await channels.trim('alerts', now))
      all += gone;
    return all;
  };

  test('what is written is read back unchanged, after an offset, in order, within a limit', async () => {
    await write(3);
    await write(2);
    expect(await channels.read('alerts', 1, 3)).toEqual([message(2), message(3), message(4)]);
    expect(await channels.read('alerts', 5, 10)).toEqual([]);
    expect(await channels.head('alerts')).toMatchObject({ channel: 'alerts', head: 5 });
  });

  test('writers at once take offsets without gaps, also when some of them abort', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 24 }, (_, index) =>
        index % 3 === 0
          ? database.db.transaction(async (tx) => {
              await channels.take(tx, 'alerts', 5);
              throw new Error('abort');
            })
          : write(2),
      ),
    );
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(16);
    expect(await offsets()).toEqual({ least: 1, most: 32, count: 32 });
    expect((await channels.head('alerts')).head).toBe(32);
  });

  test('a channel that nobody made is refused', async () => {
    const unknown: unknown = expect.objectContaining({ code: 'channel-unknown' });
    await expect(channels.head('nope')).rejects.toEqual(unknown);
    await expect(database.db.transaction((tx) => channels.take(tx, 'nope', 1))).rejects.toEqual(unknown);
  });

  test('trimming keeps the newest messages, however old they are', async () => {
    await fill(MESSAGES_KEPT + 7000, '0');
    expect(await trimAll(10 * MESSAGES_KEPT_MS)).toBe(7000);
    expect(await offsets()).toEqual({ least: 7001, most: MESSAGES_KEPT + 7000, count: MESSAGES_KEPT });
  });

  test('trimming keeps the young ones, however many they are', async () => {
    await fill(MESSAGES_KEPT + 7000, 'n');
    expect(await trimAll(MESSAGES_KEPT_MS + 101)).toBe(100);
    expect((await offsets()).least).toBe(101);
  });

  test('what stays has no gap, also when times of neighbours are swapped', async () => {
    // Offset 51 is young; those behind it are old.
    await fill(MESSAGES_KEPT + 100, 'CASE WHEN n = 51 THEN 5000 ELSE 0 END');
    expect(await trimAll(MESSAGES_KEPT_MS + 1)).toBe(50);
    expect(await offsets()).toEqual({ least: 51, most: MESSAGES_KEPT + 100, count: MESSAGES_KEPT + 50 });
  });
});
