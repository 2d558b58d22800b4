/**
 * Drops the oldest entry of a map that is over its bound (a Map keeps the order of insertion; who deletes before setting makes it
 * the order of use). Call it after each new entry.
 */
export function boundMap(map: Map<unknown, unknown>, most: number): void {
  if (map.size <= most) return;
  const oldest = map.keys().next();
  if (oldest.done !== true) map.delete(oldest.value);
}
