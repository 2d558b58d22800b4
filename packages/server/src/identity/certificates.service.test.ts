import { generateKeyPairSync } from 'node:crypto';
import { type Engine, engines } from '@tocsin/testkit/engines';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDeviceStore } from '../store/postgres/devices.ts';
import type { DeviceStore, Standing } from '../store/ports/registry.ts';
import type { VerifiedCertificate } from './certificates.ts';
import { certificateSession, readCertificateSession, SESSION_ID_CHARACTERS } from './certificate-session.ts';
import type { Identity } from './identity.ts';
import type { Principal } from './principal.ts';
import { parseEnded } from './session-state.ts';
import { type Bench, codeOf, openBench, PASSWORD } from './testing.suite.ts';
import type { User } from './users.ts';

const publicKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
const certificate = (names: Partial<VerifiedCertificate>): VerifiedCertificate => ({
  emails: [],
  uris: [],
  commonNames: [],
  validTo: 1_800_000_000_000,
  fingerprint: 'AB:CD',
  ...names,
});
const LONGEST = 'd'.repeat(64);

let bench: Bench;
let identity: Identity;
let devices: DeviceStore;
let ann: User;

async function setUp(engine: Engine): Promise<void> {
  bench = await openBench({}, engine);
  ({ identity } = bench);
  devices = createDeviceStore(bench.database.db);
  ann = await identity.users.create({ email: 'ann@b.test', password: PASSWORD, role: 'operator' });
  await identity.users.create({ email: 'root@b.test', password: PASSWORD, role: 'admin' });
  for (const id of ['d1', 'd2', LONGEST]) await addDevice(id, id === 'd2' ? ann.id : null);
}
async function addDevice(id: string, ownerId: string | null): Promise<void> {
  const place = { zoneId: null, latitude: null, longitude: null };
  const rest = { publicKey, ownerId, standing: 'active', exercise: false, createdAt: 0 } as const;
  expect(await devices.insert({ id, profile: 'seismic', ...place, ...rest })).toMatchObject({ outcome: 'written' });
}
const verify = (names: Partial<VerifiedCertificate>): Promise<Principal> =>
  identity.certificates.verify(certificate(names));
async function subjectOf(names: Partial<VerifiedCertificate>): Promise<string> {
  const { subject, deviceId } = await verify(names);
  return [subject === ann.id ? 'ann' : subject, ...(deviceId === null ? [] : [deviceId])].join(' ');
}

describe.each(engines)('the names of a client certificate on %s', (engine) => {
  beforeAll(() => setUp(engine));
  afterAll(() => bench.close());

  test.each<[string, (id: string) => Partial<VerifiedCertificate>, string]>([
    ['the e-mail address of a user', () => ({ emails: ['Ann@B.test'] }), 'ann'],
    ['a URN with the id of a user', (id) => ({ uris: [`urn:tocsin:user:${id}`] }), 'ann'],
    ['a URN with the e-mail address of a user', () => ({ uris: ['urn:tocsin:user:ann@b.test'] }), 'ann'],
    ['a URN in other letters', () => ({ uris: ['URN:Tocsin:User:ANN@b.test'] }), 'ann'],
    ['a URN with the id of a device', () => ({ uris: ['urn:tocsin:device:d1'] }), 'device:d1 d1'],
    [
      'a URN with the longest id of a device',
      () => ({ uris: [`urn:tocsin:device:${LONGEST}`] }),
      `device:${LONGEST} ${LONGEST}`,
    ],
    ['a URN of a device that has an owner', () => ({ uris: ['urn:tocsin:device:d2'] }), 'ann d2'],
    ['a common name that is an e-mail address', () => ({ commonNames: ['ann@b.test'] }), 'ann'],
    ['a common name that is a device', () => ({ commonNames: ['d1'] }), 'device:d1 d1'],
    ['the same user twice', (id) => ({ emails: ['ann@b.test'], uris: [`urn:tocsin:user:${id}`] }), 'ann'],
    [
      'a user and URIs of others',
      () => ({ emails: ['ann@b.test'], uris: ['https://b.test/', 'urn:other:device:d1'] }),
      'ann',
    ],
    [
      'a common name beside URIs of others',
      () => ({ uris: ['spiffe://b.test/x'], commonNames: ['d1'] }),
      'device:d1 d1',
    ],
    ['a user, and somebody unknown', () => ({ emails: ['ann@b.test', 'nobody@b.test'] }), 'ann'],
  ])('with %s, stand for it', async (_what, names, who) => {
    expect(await subjectOf(names(ann.id))).toBe(who);
  });

  test.each<[string, (id: string) => Partial<VerifiedCertificate>]>([
    ['no name', () => ({})],
    ['an unknown address', () => ({ emails: ['nobody@b.test'] })],
    ['an unknown address, whatever the common name', () => ({ emails: ['nobody@b.test'], commonNames: ['d1'] })],
    [
      'a URN of ours that names nobody, whatever the common name',
      () => ({ uris: ['urn:tocsin:device:x'], commonNames: ['d1'] }),
    ],
    ['two users', () => ({ emails: ['ann@b.test', 'root@b.test'] })],
    ['a user and a device', () => ({ emails: ['ann@b.test'], uris: ['urn:tocsin:device:d1'] })],
    ['two common names', () => ({ commonNames: ['ann@b.test', 'd1'] })],
    ['the id of a user as common name', (id) => ({ commonNames: [id] })],
    ['the id of a user as a device', (id) => ({ uris: [`urn:tocsin:device:${id}`] })],
    ['a device as a user', () => ({ uris: ['urn:tocsin:user:d1'] })],
    [
      'text that is no name',
      () => ({ emails: ['ann@b.test\u0000'], uris: ['urn:tocsin:device:d1\u0000', 'urn:tocsin:user:'] }),
    ],
    ['a wildcard', () => ({ uris: ['urn:tocsin:device:%', 'urn:tocsin:user:*@b.test'] })],
  ])('with %s are 401', async (_what, names) => {
    expect(await codeOf(verify(names(ann.id)))).toBe('credentials-wrong');
  });
});

describe.each(engines)('client certificates on %s', (engine) => {
  beforeEach(() => setUp(engine));
  afterEach(() => bench.close());

  test('carry the role of the user as it is now, and end when the certificate does', async () => {
    const before = await verify({ emails: ['ann@b.test'] });
    expect(before).toMatchObject({ kind: 'user', role: 'operator', scope: 'api', expiresAt: 1_800_000_000_000 });
    await identity.users.patch(ann.id, { role: 'viewer' });
    const after = await verify({ emails: ['ann@b.test'] });
    expect(after.role).toBe('viewer');
    expect(after.sessionId).not.toBe(before.sessionId);
  });

  test('of a disabled user are 403, of a removed one 401', async () => {
    await identity.users.patch(ann.id, { disabled: true });
    expect(await codeOf(verify({ emails: ['ann@b.test'] }))).toBe('role-insufficient');
    await identity.users.remove(ann.id);
    expect(await codeOf(verify({ emails: ['ann@b.test'] }))).toBe('credentials-wrong');
  });

  test.each<[Standing, string]>([
    ['active', 'accepted'],
    ['blocked', 'accepted'],
    ['inactive', 'device-inactive'],
    ['quarantined', 'device-quarantined'],
    ['revoked', 'device-revoked'],
  ])('of a device that is %s: %s, and its session goes the same way', async (standing, outcome) => {
    const { sessionId } = await verify({ commonNames: ['d1'] });
    if (standing === 'revoked') await devices.revoke('d1', 1);
    else await devices.update('d1', { standing }, 1);
    expect(await codeOf(verify({ commonNames: ['d1'] }))).toBe(outcome);
    expect(await identity.sessionState.dead([sessionId])).toEqual(outcome === 'accepted' ? [] : [sessionId]);
  });

  test('open sessions that live until the user changes in any way that ends sessions', async () => {
    const { sessionId } = await verify({ emails: ['ann@b.test'] });
    expect(await identity.sessionState.dead([sessionId])).toEqual([]);
    expect(await identity.sessionState.alive(sessionId)).toBe(true);
    const changes = [{ password: `${PASSWORD} more` }, { role: 'viewer' }, { email: 'ann2@b.test' }] as const;
    const ids = [sessionId];
    for (const change of changes) {
      await identity.users.patch(ann.id, change);
      expect((await identity.sessionState.dead(ids)).toSorted()).toEqual(ids.toSorted());
      ids.push((await verify({ uris: [`urn:tocsin:user:${ann.id}`] })).sessionId);
    }
    await identity.users.patch(ann.id, { disabled: true });
    expect(await identity.sessionState.dead(ids)).toHaveLength(ids.length);
    await identity.users.remove(ann.id);
    expect(await identity.sessionState.dead(ids)).toHaveLength(ids.length);
  });

  test('of a device end with another owner', async () => {
    const { sessionId } = await verify({ commonNames: ['d2'] });
    await devices.update('d2', { ownerId: null }, 1);
    expect(await identity.sessionState.dead([sessionId])).toEqual([sessionId]);
  });

  test('end at once in another process when the user is changed or removed here', async () => {
    const other = await bench.another();
    for (const act of [() => identity.users.patch(ann.id, { role: 'viewer' }), () => identity.users.remove(ann.id)]) {
      const { sessionId } = await verify({ emails: ['ann@b.test'] });
      const told = new Promise<readonly string[]>((resolve) => void other.sessionState.onEnded(resolve));
      await act();
      expect(await told).toEqual([sessionId]);
    }
  });

  test('are judged together with other sessions, thousands in one look', async () => {
    const pair = await identity.signIn({ email: 'ann@b.test', password: PASSWORD, address: '192.0.2.1' });
    const { sessionId } = await verify({ emails: ['ann@b.test'] });
    const forged = Array.from({ length: 2500 }, (_, n) =>
      certificateSession({ kind: n % 2 === 0 ? 'user' : 'device', id: `x${n}`, version: '0123456789abcdef' }),
    );
    const ended = await identity.sessionState.dead([
      ...forged,
      sessionId,
      pair.sessionId,
      'outside.x',
      'certificate.x',
    ]);
    expect(ended).toHaveLength(2501);
    expect(ended).toContain('certificate.x');
  });
});

describe('the session id of a certificate', () => {
  test('says whose it is, and is never longer than a message between processes allows', () => {
    const holder = { kind: 'device', id: LONGEST, version: 'f'.repeat(16) } as const;
    const name = certificateSession(holder);
    expect(readCertificateSession(name)).toEqual({ name, ...holder });
    expect(name.length).toBeLessThanOrEqual(SESSION_ID_CHARACTERS);
    expect(parseEnded(JSON.stringify({ sessions: [name] }))).toEqual([name]);
    for (const id of ['certificate.user', 'certificate.admin.ffffffffffffffff.a', 'certificate.user.ffff.a', ''])
      expect(readCertificateSession(id)).toBeNull();
  });
});
