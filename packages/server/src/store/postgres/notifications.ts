/** Destinations of notifications in PostgreSQL (port: `store/ports/notifications.ts`). */
import type { Database, Sql } from '../ports/database.ts';
import {
  DEAD_LETTERS_KEPT,
  type DeadLetter,
  type Destination,
  type DestinationReport,
  type Hold,
  type LetterChoice,
  type NewDeadLetter,
  NOTIFICATIONS_KEPT_MS,
  type NotificationStore,
  type Step,
  type Told,
} from '../ports/notifications.ts';

const TRIM_ROWS = 5000;
/** Longest reason or error that is kept, characters. */
const REASON_CHARACTERS = 100;

const COLUMNS = `destination, position, fence, attempts, not_before AS "notBefore", summary_at AS "summaryAt"`;

// Where no channel is, there is no destination either, and a claim answers nothing.
const ENTER = `
INSERT INTO notification_destinations (destination, channel, epoch, position)
SELECT $1, channel, epoch, head FROM channels WHERE channel = $2 ON CONFLICT (destination) DO NOTHING`;

const CLAIM = `
UPDATE notification_destinations d SET
  owner = $2, fence = d.fence + 1, lease_until = now_ms() + $3, held_at = now_ms(), epoch = c.epoch,
  position = CASE WHEN d.epoch = c.epoch THEN d.position ELSE 0 END
FROM channels c
WHERE d.destination = $1 AND c.channel = d.channel AND ($4 OR d.owner IS NULL OR d.owner = $2 OR d.lease_until < now_ms())
RETURNING d.destination, d.position, d.fence, d.attempts, d.not_before AS "notBefore", d.summary_at AS "summaryAt"`;

const RENEW = `
UPDATE notification_destinations SET lease_until = now_ms() + $3, held_at = now_ms()
WHERE destination = $1 AND fence = $2`;

const RELEASE = `
UPDATE notification_destinations SET owner = NULL, lease_until = 0 WHERE destination = $1 AND fence = $2`;

const MOVE = `
UPDATE notification_destinations SET
  position = $4, attempts = CASE WHEN $6 THEN 0 ELSE attempts END, not_before = CASE WHEN $6 THEN 0 ELSE not_before END,
  told = told + $5, last_sent_at = CASE WHEN $5 > 0 THEN $7 ELSE last_sent_at END, dead = dead + $8, lost = lost + $9
WHERE destination = $1 AND fence = $2 AND position = $3`;

const SAY_TOLD = `
INSERT INTO notification_told AS t (destination, alert_id, severity, at)
SELECT $1, alert_id, severity, $4 FROM unnest($2::text[], $3::smallint[]) AS s (alert_id, severity)
ON CONFLICT (destination, alert_id) DO UPDATE SET severity = greatest(t.severity, excluded.severity), at = excluded.at`;

const BURY = `
INSERT INTO notification_dead_letters (destination, "offset", alert_id, revision, event, reason, died_at)
SELECT $1, o, a, r, e, left(w, ${REASON_CHARACTERS}), $7
FROM unnest($2::bigint[], $3::text[], $4::integer[], $5::text[], $6::text[]) AS d (o, a, r, e, w)
ON CONFLICT (destination, "offset") DO NOTHING`;

const DROP_OLDEST = `
WITH gone AS (
  DELETE FROM notification_dead_letters WHERE destination = $1 AND id <= (
    SELECT id FROM notification_dead_letters WHERE destination = $1 ORDER BY id DESC OFFSET ${DEAD_LETTERS_KEPT} LIMIT 1)
  RETURNING 1
)
UPDATE notification_destinations SET letters_dropped = letters_dropped + (SELECT count(*) FROM gone)
WHERE destination = $1 AND (SELECT count(*) FROM gone) > 0`;

const DELAY = `
UPDATE notification_destinations SET attempts = $3, not_before = $4, last_error = left($5, ${REASON_CHARACTERS}), last_error_at = $6
WHERE destination = $1 AND fence = $2`;

const ENDED = `
UPDATE notification_destinations SET attempts = 0, not_before = 0,
  told = told + $3, last_sent_at = CASE WHEN $3 > 0 THEN $4 ELSE last_sent_at END
WHERE destination = $1 AND fence = $2`;

const LETTER = `
id, destination, "offset", alert_id AS "alertId", revision, event, reason, died_at AS "diedAt", requested_at AS "requestedAt"`;

const LIST = `
SELECT ${COLUMNS}, greatest(0, (SELECT head FROM channels c WHERE c.channel = d.channel) - position) AS lag,
  owner IS NOT NULL AND lease_until >= now_ms() AS held, held_at AS "heldAt",
  last_error AS "lastError", last_error_at AS "lastErrorAt", last_sent_at AS "lastSentAt",
  told, dead, lost, letters_dropped AS "lettersDropped",
  (SELECT count(*) FROM notification_dead_letters l WHERE l.destination = d.destination) AS letters
FROM notification_destinations d ORDER BY destination`;

// Null for "any" in both.
const CHOSEN = `($1::text IS NULL OR destination = $1) AND ($2::bigint[] IS NULL OR id = ANY ($2))`;

const FORGET_TOLD = `
DELETE FROM notification_told WHERE (destination, alert_id) IN (
  SELECT destination, alert_id FROM notification_told WHERE at < $1 LIMIT ${TRIM_ROWS})`;

const FORGET_LETTERS = `
WITH gone AS (
  DELETE FROM notification_dead_letters WHERE id IN (
    SELECT l.id FROM notification_dead_letters l JOIN notification_destinations d USING (destination)
    WHERE NOT EXISTS (SELECT FROM channel_messages m WHERE m.channel = d.channel AND m."offset" = l."offset")
    LIMIT ${TRIM_ROWS})
  RETURNING destination
), counted AS (
  SELECT destination, count(*) AS n FROM gone GROUP BY destination
)
UPDATE notification_destinations d SET letters_dropped = letters_dropped + n FROM counted
WHERE d.destination = counted.destination`;

const FORGET_DESTINATIONS = `
DELETE FROM notification_destinations WHERE held_at < now_ms() - ${NOTIFICATIONS_KEPT_MS} AND lease_until < now_ms()`;

/** Builds the port for destinations of `channel`. */
export function createNotificationStore(db: Database, channel: string): NotificationStore {
  return {
    async enter(destination) {
      await db.execute(ENTER, [destination, channel]);
    },
    async claim(destination, owner, ttlMs, seize) {
      const claim = (): Promise<Destination[]> =>
        db.query<Destination>(CLAIM, [destination, owner, ttlMs, seize], 'notify-claim');
      const [row] = await claim();
      if (row !== undefined) return row;
      // Either another owner holds it, or it is not there yet.
      if ((await db.execute(ENTER, [destination, channel])) === 0) return null;
      return (await claim())[0] ?? null;
    },
    async renew({ destination, fence }, ttlMs) {
      return (await db.execute(RENEW, [destination, fence, ttlMs], 'notify-renew')) === 1;
    },
    async release({ destination, fence }) {
      await db.execute(RELEASE, [destination, fence]);
    },
    advance: (hold, step, now) => db.transaction((sql) => advance(sql, hold, step, now)),
    async delay({ destination, fence }, { attempts, notBefore, error }, now) {
      return (await db.execute(DELAY, [destination, fence, attempts, notBefore, error, now])) === 1;
    },
    async summaryDue({ destination, fence }, at) {
      const text = 'UPDATE notification_destinations SET summary_at = $3 WHERE destination = $1 AND fence = $2';
      return (await db.execute(text, [destination, fence, at])) === 1;
    },
    async told(destination, alertIds) {
      const rows = await db.query<{ id: string; severity: number }>(
        'SELECT alert_id AS id, severity FROM notification_told WHERE destination = $1 AND alert_id = ANY ($2)',
        [destination, alertIds],
      );
      return new Map(rows.map(({ id, severity }) => [id, severity]));
    },
    requested: (destination, most) =>
      db.query<DeadLetter>(
        `SELECT ${LETTER} FROM notification_dead_letters
         WHERE destination = $1 AND requested_at IS NOT NULL ORDER BY id LIMIT $2`,
        [destination, most],
        'notify-requested',
      ),
    settle: (hold, id, end, now) =>
      db.transaction(async (sql) => {
        const told = end.kind === 'told' ? 1 : 0;
        if ((await sql.execute(ENDED, [hold.destination, hold.fence, told, now])) !== 1) return false;
        if (end.kind === 'told') {
          await sql.execute('DELETE FROM notification_dead_letters WHERE id = $1', [id]);
          await sayTold(sql, hold.destination, [end.told], now);
        } else {
          await sql.execute(
            `UPDATE notification_dead_letters SET requested_at = NULL, died_at = $2, reason = left($3, ${REASON_CHARACTERS}) WHERE id = $1`,
            [id, now, end.reason],
          );
        }
        return true;
      }),
    list: () => db.query<DestinationReport>(LIST),
    deadLetters: (choice, most) =>
      db.query<DeadLetter>(
        `SELECT ${LETTER} FROM notification_dead_letters WHERE ${CHOSEN} ORDER BY id DESC LIMIT $3`,
        [...chosen(choice), most],
      ),
    request: (choice, now) =>
      db.execute(`UPDATE notification_dead_letters SET requested_at = $3 WHERE ${CHOSEN} AND requested_at IS NULL`, [
        ...chosen(choice),
        now,
      ]),
    async trim(now) {
      const told = await db.execute(FORGET_TOLD, [now - NOTIFICATIONS_KEPT_MS]);
      const letters = await db.execute(FORGET_LETTERS);
      return told + letters + (await db.execute(FORGET_DESTINATIONS));
    },
  };
}

function chosen({ destination, ids }: LetterChoice): unknown[] {
  return [destination ?? null, ids ?? null];
}

async function advance(sql: Sql, { destination, fence }: Hold, step: Step, now: number): Promise<boolean> {
  const { from, to, told, dead, lost, answered } = step;
  const moved = [destination, fence, from, to, told.length, answered, now, dead.length, lost];
  if ((await sql.execute(MOVE, moved, 'notify-move')) !== 1) return false;
  await sayTold(sql, destination, told, now);
  await bury(sql, destination, dead, now);
  return true;
}

async function sayTold(sql: Sql, destination: string, told: readonly Told[], now: number): Promise<void> {
  // The last word on each alert counts.
  const last = [...new Map(told.map((each) => [each.alertId, each])).values()];
  const going = last.filter(({ over }) => !over);
  const over = last.filter((each) => each.over).map(({ alertId }) => alertId);
  if (going.length > 0) {
    const [ids, ranks] = [going.map(({ alertId }) => alertId), going.map(({ severity }) => severity)];
    await sql.execute(SAY_TOLD, [destination, ids, ranks, now], 'notify-told');
  }
  if (over.length > 0) {
    const text = 'DELETE FROM notification_told WHERE destination = $1 AND alert_id = ANY ($2)';
    await sql.execute(text, [destination, over], 'notify-over');
  }
}

async function bury(sql: Sql, destination: string, dead: readonly NewDeadLetter[], now: number): Promise<void> {
  if (dead.length === 0) return;
  await sql.execute(BURY, [
    destination,
    dead.map(({ offset }) => offset),
    dead.map(({ alertId }) => alertId),
    dead.map(({ revision }) => revision),
    dead.map(({ event }) => event),
    dead.map(({ reason }) => reason),
    now,
  ]);
  await sql.execute(DROP_OLDEST, [destination]);
}
