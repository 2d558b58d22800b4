/** What a detector noticed and what the ledger turns into an alert. Types only. */
import type { Alert } from './alert.ts';

type Told = 'kind' | 'severity' | 'status' | 'headline' | 'description' | 'evidence' | 'fingerprint';
type Where = 'zoneId' | 'deviceId' | 'latitude' | 'longitude';

/**
 * A finding worth telling: the members of the alert that it becomes. `onset` comes from the readings' own times (Unix
 * ms), `fingerprint` from kind, key and onset. The same fingerprint again is the same alert; it gets a new revision when
 * `evidence` or `severity` differ from what is stored (severity never sinks), else nothing happens.
 *
 * `ends`: what it speaks of is over. It resolves the alert of its fingerprint: `description` is put behind that alert's,
 * the members of `evidence` are added to its own; everything else of the finding is passed over. Where there is no such
 * alert, or it is resolved already, nothing happens.
 */
export interface AlertFinding extends Pick<Alert, Told | Where | 'onset'> {
  readonly ends?: true;
}
