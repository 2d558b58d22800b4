/** Which partition of the log a key belongs to. */

/** FNV-1a (32 bit) of the key's UTF-16 units, modulo `partitions`: 0 … partitions - 1. */
export function partitionOf(key: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % partitions;
}
