/**
 * Slots of the link to an outside MQTT broker in PostgreSQL (tables `mqtt_slots` and `installation`).
 *
 * A process may freeze anywhere, also inside a transaction, and its slot is then to change hands: so a slot is adopted by one
 * statement, and those who claim one hold their lock for {@link LOCK_IDLE_MS} at most.
 */
import type { Database, Transaction } from '../ports/database.ts';
import type { MqttSlot, MqttSlots } from '../ports/mqtt-slots.ts';

/** The lock under which slots are claimed. Any number that no other advisory lock of ours has. */
const SLOT_LOCK = 7_420_032;
/** PostgreSQL ends the session of a holder that is silent for so long. */
const LOCK_IDLE_MS = 2000;
const LOCK = `SELECT pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '${LOCK_IDLE_MS}', true)`;

const INSTALLATION = `
INSERT INTO installation (name, value) VALUES ('mqtt-name', left(replace(gen_random_uuid()::text, '-', ''), 12))
ON CONFLICT (name) DO UPDATE SET value = installation.value
RETURNING value`;

/**
 * The lowest number that nobody holds, whether there is a row or not; none while somebody works in slot 0 and the broker does
 * not share. One statement, as leases are renewed at any time.
 */
const LOWEST_FREE = `
SELECT n AS number FROM generate_series(0, (SELECT count(*) FROM mqtt_slots)) AS n
WHERE NOT EXISTS (SELECT 1 FROM mqtt_slots s WHERE s.number = n AND s.lease_until >= now_ms())
  AND NOT EXISTS (SELECT 1 FROM mqtt_slots z WHERE z.number = 0 AND z.lease_until >= now_ms() AND z.shared IS NOT TRUE)
ORDER BY n LIMIT 1`;

const TAKE = `
INSERT INTO mqtt_slots AS s (number, owner, fence, lease_until)
VALUES ($1, $2, nextval('mqtt_slot_fences'), now_ms() + $3)
ON CONFLICT (number) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, lease_until = excluded.lease_until
WHERE s.lease_until < now_ms()
RETURNING s.number, s.fence, s.filters`;

const ADOPT = `
UPDATE mqtt_slots SET owner = $1, fence = nextval('mqtt_slot_fences'), lease_until = now_ms() + $2
WHERE number = (
  SELECT number FROM mqtt_slots WHERE lease_until < now_ms() ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING number, fence, filters`;

/** The statement sees the rows as they were: our own lease may have run out there. */
const RENEW = `
WITH kept AS (UPDATE mqtt_slots SET lease_until = now_ms() + $3 WHERE number = $1 AND fence = $2 RETURNING owner)
SELECT count(DISTINCT s.owner) + 1 AS owners FROM kept
LEFT JOIN mqtt_slots s ON s.owner <> kept.owner AND s.lease_until >= now_ms()
HAVING count(kept.owner) > 0`;
const NOTE = `UPDATE mqtt_slots SET filters = $3, shared = $4 WHERE number = $1 AND fence = $2`;
const RELEASE = `UPDATE mqtt_slots SET owner = NULL, lease_until = 0 WHERE number = $1 AND fence = $2`;
const REMOVE = `DELETE FROM mqtt_slots WHERE number = $1 AND fence = $2`;

/** Builds the {@link MqttSlots}. */
export function createMqttSlots(db: Database): MqttSlots {
  return {
    async installation() {
      const [row] = await db.query<{ value: string }>(INSTALLATION);
      return row?.value ?? '';
    },
    async claim(owner, leaseMs) {
      // Whoever stands by asks again and again, without the lock.
      if ((await lowestFree(db)) === null) return null;
      return await db.transaction(async (sql) => {
        await sql.execute(LOCK, [SLOT_LOCK]);
        return take(sql, owner, leaseMs);
      });
    },
    adopt: async (owner, leaseMs) => (await db.query<MqttSlot>(ADOPT, [owner, leaseMs]))[0] ?? null,
    async renew({ number, fence }, leaseMs) {
      const [row] = await db.query<{ owners: number }>(RENEW, [number, fence, leaseMs], 'mqtt-slot-renew');
      return row?.owners ?? null;
    },
    note: async ({ number, fence }, { filters, shared }) =>
      (await db.execute(NOTE, [number, fence, filters, shared])) === 1,
    release: async ({ number, fence }) => void (await db.execute(RELEASE, [number, fence])),
    remove: async ({ number, fence }) => void (await db.execute(REMOVE, [number, fence])),
  };
}

async function lowestFree(sql: Pick<Database, 'query'>): Promise<number | null> {
  const [found] = await sql.query<{ number: number }>(LOWEST_FREE);
  return found?.number ?? null;
}

/** Null: there is none, or it is being adopted. */
async function take(sql: Transaction, owner: string, leaseMs: number): Promise<MqttSlot | null> {
  const number = await lowestFree(sql);
  if (number === null) return null;
  const [slot] = await sql.query<MqttSlot>(TAKE, [number, owner, leaseMs]);
  return slot ?? null;
}
