/**
 * The fingerprint of an alert: what makes two findings the same event. Pure.
 *
 * Guarantee: of kind, key and onset only, so the same event gives the same fingerprint in every batch, process and
 * replay; never of the wall clock.
 */
import { createHash } from 'node:crypto';

/**
 * Hex SHA-256 over `[kind, key, onset]`. `key` is the detector's (`zone:<id>`, `device:<id>` …), `onset` Unix ms by the
 * readings' own times.
 */
export function fingerprint(kind: string, key: string, onset: number): string {
  return createHash('sha256')
    .update(JSON.stringify([kind, key, onset]))
    .digest('hex');
}
