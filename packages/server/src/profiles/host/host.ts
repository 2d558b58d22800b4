/** Computers that report how loaded they are: the frame of section 4 of the contract, with `at` for `timestamp`. */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { HostReading, Reading } from '@tocsin/protocol/envelope';
import { checkObject, numberOrNull, numberWithin, optional, required, time, type Fields } from '../fields.ts';
import type { Measured, Profile, Watcher } from '../profile.ts';

const percent = numberWithin(0, 100);
/** What both forms of a reading have: that of an envelope, and the frame (`frame.ts`). */
export const NUMBERS: Fields = {
  cpu_percent: required(percent),
  mem_percent: required(percent),
  disk_percent: required(percent),
  gpu_percent: optional(numberOrNull(0, 100)),
  agent_cpu_percent: optional(numberOrNull(0, 1000)),
  agent_mem_mb: optional(numberOrNull(0, Infinity)),
};
const READING: Fields = { at: required(time), ...NUMBERS };

/**
 * The numbers of an object that keeps {@link NUMBERS}, in a fixed order; absent ones are null. 0 for -0: equal content, equal
 * text.
 */
export function numbersOf(raw: Readonly<Record<string, unknown>>): Omit<HostReading, 'at'> {
  const number = (name: string): number => (raw[name] as number) + 0;
  const orNull = (name: string): number | null => {
    const value = raw[name] as number | null | undefined;
    return value === undefined || value === null ? null : value + 0;
  };
  return {
    cpu_percent: number('cpu_percent'),
    mem_percent: number('mem_percent'),
    disk_percent: number('disk_percent'),
    gpu_percent: orNull('gpu_percent'),
    agent_cpu_percent: orNull('agent_cpu_percent'),
    agent_mem_mb: orNull('agent_mem_mb'),
  };
}

function parse(raw: unknown, _signedAt: number, pointer: string, errors: ErrorDetail[]): Reading | null {
  if (!checkObject(raw, READING, pointer, errors)) return null;
  return { at: raw['at'] as number, ...numbersOf(raw) };
}

function measure(reading: Reading): Measured {
  const { at: _at, ...fields } = reading as HostReading;
  return { value: fields.cpu_percent, fields };
}

/** The host profile; `watchers` watch each host, absent: nothing does. */
export function hostProfile({ watchers = [] }: { readonly watchers?: readonly Watcher<unknown>[] } = {}): Profile {
  return { name: 'host', parse, measure, notice: () => [], watchers };
}
