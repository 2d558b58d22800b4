import { expect, test } from 'vitest';
import { devicePartitions, partitionOf } from './partition.ts';

test('devices and other keys never share a partition, and each kind uses all of its own', () => {
  const devices = new Set(Array.from({ length: 1000 }, (_, i) => partitionOf(`device-${i}`, 16)));
  const zones = new Set(Array.from({ length: 1000 }, (_, i) => partitionOf(`zone:z${i}`, 16)));
  expect([...devices].sort((a, b) => a - b)).toEqual(Array.from({ length: devicePartitions(16) }, (_, i) => i));
  expect([...zones].sort((a, b) => a - b)).toEqual([12, 13, 14, 15]);
});

test('a key keeps its partition', () => {
  expect(partitionOf('m7', 16)).toBe(partitionOf('m7', 16));
});
