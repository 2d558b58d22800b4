/**
 * Which partition of the log a key belongs to.
 *
 * A quarter of the partitions belong to keys with a colon (`zone:<id>` …), which device ids cannot have: what detectors
 * noticed never waits behind a batch of readings.
 */

const KEYED_SHARE = 4;

/** How many of `partitions` hold device keys; the rest hold the others. */
export function devicePartitions(partitions: number): number {
  return partitions - Math.max(1, Math.floor(partitions / KEYED_SHARE));
}

/** 0 … partitions - 1, by FNV-1a (32 bit) of the key's UTF-16 units. */
export function partitionOf(key: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  const devices = devicePartitions(partitions);
  return key.includes(':') ? devices + ((hash >>> 0) % (partitions - devices)) : (hash >>> 0) % devices;
}
