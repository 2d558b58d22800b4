/** From a log record's body back to the envelope. It was checked when it came in; here it only changes its form. */
import type { ErrorDetail } from '@tocsin/protocol/errors';
import type { Envelope, ProfileName, Reading } from '@tocsin/protocol/envelope';
import type { Profile } from './profile.ts';

/**
 * The payload of a compact JWS, or the JSON that stands for an original measurement or a frame. Throws on anything else.
 */
export function decodeEnvelope(
  profiles: Readonly<Record<ProfileName, Profile>>,
  kind: 'envelope' | 'original' | 'frame',
  body: string,
): Envelope {
  const json = kind === 'envelope' ? Buffer.from(body.split('.')[1] ?? '', 'base64url').toString('utf8') : body;
  const { id, at, profile, readings } = JSON.parse(json) as Envelope;
  const { parse } = profiles[profile];
  const errors: ErrorDetail[] = [];
  const parsed = readings.flatMap((raw, index): Reading[] => {
    const reading = parse(raw, at, `/readings/${index}`, errors);
    return reading === null ? [] : [reading];
  });
  const first = errors[0];
  if (first !== undefined) throw new Error(`${first.pointer} ${first.detail}`);
  return { id, at, profile, readings: parsed };
}
