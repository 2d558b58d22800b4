/** Channels in PostgreSQL (port: `store/ports/channels.ts`). */
import { CodedError } from '../../lib/coded-error.ts';
import {
  type ChannelHead,
  type ChannelMessage,
  type ChannelStore,
  type ChannelWriter,
  DESTINATION_LIVES_MS,
  MESSAGES_KEPT,
  MESSAGES_KEPT_FOR_DESTINATIONS,
  MESSAGES_KEPT_MS,
} from '../ports/channels.ts';
import type { Database } from '../ports/database.ts';

const TRIM_ROWS = 5000;

const READ = `
SELECT channel, "offset", type, zone_id AS "zoneId", severity, created_at AS "createdAt", body
FROM channel_messages WHERE channel = $1 AND "offset" > $2 ORDER BY "offset" LIMIT $3`;

// Times of neighbours may be swapped (several processes write), so what goes is the stretch before the first young one.
const TRIM = `
WITH kept AS (
  SELECT head - $2 AS most, (
    SELECT greatest(c.head - ${MESSAGES_KEPT_FOR_DESTINATIONS}, min(position)) FROM notification_destinations d
    WHERE d.channel = c.channel AND d.epoch = c.epoch AND d.held_at >= now_ms() - ${DESTINATION_LIVES_MS}
    HAVING count(*) > 0
  ) AS decided
  FROM channels c WHERE channel = $1
), oldest AS (
  SELECT "offset", created_at FROM channel_messages
  WHERE channel = $1 AND "offset" <= (SELECT least(most, coalesce(decided, most)) FROM kept)
  ORDER BY "offset" LIMIT ${TRIM_ROWS}
), young AS (
  SELECT min("offset") AS first FROM oldest WHERE created_at >= $3
)
DELETE FROM channel_messages m USING oldest, young
WHERE m.channel = $1 AND m."offset" = oldest."offset" AND (young.first IS NULL OR oldest."offset" < young.first)`;

/** Builds both sides of the channels. */
export function createChannelStore(db: Database): ChannelStore & ChannelWriter {
  return {
    async head(channel) {
      const [row] = await db.query<ChannelHead>(
        'SELECT channel, epoch, head FROM channels WHERE channel = $1',
        [channel],
        'channel-head',
      );
      return row ?? missing(channel);
    },
    read: (channel, after, limit) => db.query<ChannelMessage>(READ, [channel, after, limit], 'channel-read'),
    async take(sql, channel, count) {
      const rows = await sql.query<{ first: number }>(
        'UPDATE channels SET head = head + $2 WHERE channel = $1 RETURNING head - $2 + 1 AS first',
        [channel, count],
        'channel-take',
      );
      return rows[0]?.first ?? missing(channel);
    },
    trim: (channel, now) => db.execute(TRIM, [channel, MESSAGES_KEPT, now - MESSAGES_KEPT_MS]),
  };
}

function missing(channel: string): never {
  throw new CodedError('channel-unknown', `there is no channel ${channel}`);
}
