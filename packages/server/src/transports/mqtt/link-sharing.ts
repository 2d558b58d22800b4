/**
 * Whether a broker keeps what it must for shared subscriptions, by what it says it is. Pure.
 *
 * Mosquitto before 2.0.12 resumes a session after its own restart without its shared subscriptions: what is published from then
 * until we have subscribed again is acknowledged to the device and lost (its change log of 2.0.12; seen with 2.0.11).
 */

/** The first mosquitto that keeps them. */
const KEEPS: readonly [number, number, number] = [2, 0, 12];
const MOSQUITTO = /^mosquitto version (\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?/i;

/** True for the `$SYS/broker/version` of a broker that forgets shared subscriptions; null, or another broker: false. */
export function forgetsShares(version: string | null): boolean {
  const found = MOSQUITTO.exec(version ?? '');
  if (found === null) return false;
  const numbers = found.slice(1).map((digits) => Number(digits ?? 0));
  const differs = KEEPS.findIndex((least, at) => numbers[at] !== least);
  return differs !== -1 && (numbers[differs] ?? 0) < (KEEPS[differs] ?? 0);
}
