/** Every attack of a simulated fleet against the stages of ingest: each gets one of the answers that it names. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { type AttackRequest, buildAttack, type Recorded, variantsOf } from '@tocsin/device/simulate/attacks';
import { ATTACKS } from '@tocsin/device/simulate/fleet';
import { createRandom } from '@tocsin/device/simulate/random';
import { createSigner } from '@tocsin/device/envelope';
import { ERRORS } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { describe, expect, it } from 'vitest';
import { authenticate } from '../../ingest/authenticate.ts';
import { findDevice } from '../../ingest/device.ts';
import { checkFreshness } from '../../ingest/freshness.ts';
import { createIngest } from '../../ingest/ingest.ts';
import { parseJws } from '../../ingest/jws.ts';
import { checkSchema } from '../../ingest/schema.ts';
import { checkSignature, verifySignature } from '../../ingest/signature.ts';
import { newDraft, type Stage } from '../../ingest/stage.ts';
import { createMeaning } from '../meaning.ts';
import { readSettings } from '../settings.ts';

const NOW = 1_800_000_000_000;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const { privateKey: foreignKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const PROFILE = {
  seismic: (at: number) => ({ at, value: 1 }),
  host: (at: number) => ({ at, cpu_percent: 1, mem_percent: 2, disk_percent: 3 }),
};

/** Ingest over one device, which remembers what it accepted. */
function ingestOf(
  profile: 'seismic' | 'host',
): (request: Pick<AttackRequest, 'body' | 'apiKey' | 'contentType'>) => Promise<string> {
  const outcome = readSettings({}, '/nowhere');
  if ('mistakes' in outcome) throw new Error(outcome.mistakes.join());
  const seen = new Map<string, string>();
  const append: Stage = ({ envelope }) => {
    const content = JSON.stringify(envelope?.readings);
    const known = seen.get(envelope?.id ?? '');
    if (known === undefined) seen.set(envelope?.id ?? '', content);
    if (known === undefined) return null;
    return { code: known === content ? 'replay' : 'id-conflict', detail: '' };
  };
  const device = {
    ...{ id: 'd', number: 1, profile, zoneId: null, zoneNumber: null, latitude: null, longitude: null },
    ...{ standing: 'active' as const, exercise: true, key: createPublicKey(privateKey) },
  };
  const ingest = createIngest(
    [
      authenticate((key) => (key === 'key' ? { id: 'k', scopes: ['ingest'] } : null)),
      parseJws(),
      findDevice((id) => (id === 'd' ? device : null)),
      checkSignature(verifySignature),
      checkSchema(createMeaning(outcome.settings).parsers),
      checkFreshness(30_000),
      append,
    ],
    { accepted: () => undefined, rejected: () => undefined },
  );
  return async ({ body, apiKey = 'key', contentType = 'application/jose' }) => {
    // These two are the transport's to refuse, before ingest.
    if (contentType !== 'application/jose') return '415 content-type';
    if (body.length > LIMITS.bodyBytes.value) return '413 body-too-large';
    const answer = await ingest(newDraft('http', 'envelope', { traceparent: null, apiKey, body }, NOW));
    return answer.accepted ? '202' : `${ERRORS[answer.refusal.code].status} ${answer.refusal.code}`;
  };
}

describe.each(['seismic', 'host'] as const)('attacks in the name of a %s device', (profile) => {
  const device = { id: 'd', profile, key: privateKey, reading: PROFILE[profile] };

  it.each(ATTACKS)('%s: each of its requests gets an answer that it names, and none is accepted', async (kind) => {
    const send = ingestOf(profile);
    const random = createRandom(kind);
    const body = createSigner('d', privateKey).seal({ id: 'good', at: NOW, profile, readings: [device.reading(NOW)] });
    expect(await send({ body })).toBe('202');
    const recorded: Recorded = { device, id: 'good', body };
    // Some turns of each, for chance is in them.
    for (let n = 0; n < variantsOf(kind) * 5; n += 1) {
      const request = buildAttack(kind, n, { device, foreignKey, recorded, now: NOW, id: `e${n}`, random });
      if (request === null) throw new Error('nothing was built');
      expect(request.expects).not.toContain('202');
      expect(request.expects, `variant ${n % variantsOf(kind)}`).toContain(await send(request));
    }
  });

  it('nothing is replayed before something was accepted', () => {
    const material = { device, foreignKey, recorded: null, now: NOW, id: 'e', random: createRandom('r') };
    expect([0, 1].map((n) => buildAttack('replay', n, material))).toEqual([null, null]);
  });
});
