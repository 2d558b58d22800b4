/**
 * How records get their offsets: the one text of it, for every statement that appends.
 *
 * Guarantee: heads are locked in the order of partitions, and held until the commit, so offsets follow the order of
 * commits without gaps, and statements that append to several partitions do not deadlock.
 */

/**
 * The common table expressions `counts`, `locked` and `heads` (partition, base: the offset before the first new one) for
 * the records of the expression `records`, which has a column `partition`. The caller numbers them from 1 within each.
 */
export function takeHeads(records: string): string {
  return `counts AS (
  SELECT partition, count(*) AS n FROM ${records} GROUP BY partition
), locked AS (
  SELECT partition FROM log_heads WHERE partition IN (SELECT partition FROM counts) ORDER BY partition FOR UPDATE
), heads AS (
  UPDATE log_heads h SET head = h.head + c.n FROM counts c JOIN locked USING (partition)
  WHERE h.partition = c.partition RETURNING h.partition, h.head - c.n AS base
)`;
}
