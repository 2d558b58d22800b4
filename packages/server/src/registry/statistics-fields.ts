/** The numbers of readings that statistics know, by profile, and which of them is meant when nobody says. Pure. */
import type { ProfileName } from '@tocsin/protocol/envelope';
import type { MeasuredField } from '../store/ports/statistics.ts';

const main = (profile: ProfileName, field: string): MeasuredField => ({ profile, field, isMain: true });
const other = (profile: ProfileName, field: string): MeasuredField => ({ profile, field, isMain: false });

/** All fields; the first of a profile is its main one. Names are unique, so a name alone says the profile. */
export const MEASURED_FIELDS: readonly MeasuredField[] = [
  main('seismic', 'value'),
  main('host', 'cpu_percent'),
  other('host', 'mem_percent'),
  other('host', 'disk_percent'),
  other('host', 'gpu_percent'),
  other('host', 'agent_cpu_percent'),
  other('host', 'agent_mem_mb'),
  main('mobile', 'score'),
  other('mobile', 'overlay'),
  other('mobile', 'proximity'),
  other('mobile', 'motion_delta'),
];

/** The field asked for, or which ones there are. */
export type FieldChoice =
  | { readonly kind: 'field'; readonly field: MeasuredField }
  | { readonly kind: 'unknown'; readonly known: readonly string[] };

/**
 * Chooses a field among those of `profiles` (all profiles when empty: a zone whose devices are yet to come). Without a
 * `name` it is the main field of the first profile present in the order seismic, host, mobile.
 */
export function chooseField(profiles: readonly ProfileName[], name: string | undefined): FieldChoice {
  const fields = MEASURED_FIELDS.filter(({ profile }) => profiles.length === 0 || profiles.includes(profile));
  const field = name === undefined ? fields[0] : fields.find((candidate) => candidate.field === name);
  return field === undefined
    ? { kind: 'unknown', known: fields.map((known) => known.field) }
    : { kind: 'field', field };
}
