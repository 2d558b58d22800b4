/** Whether a CONNECT is let in: who is banned, who it is, and what is counted against whom. */
import { type ConnackCode, CONNACK, type Connect } from './embedded-connect.ts';
import { type Bans, SHORT_LIFE_MS, type Suspect } from './embedded-bans.ts';
import { checkCredentials, holderName, type MqttHolder } from './embedded-credentials.ts';
import type { Connection, Speaker } from './embedded-connection.ts';
import type { EmbeddedIdentity, EndReason, RefusedConnect } from './embedded-options.ts';

/** A CONNECT that is not let in. */
export interface RefusedAdmission {
  readonly code: ConnackCode;
  readonly reason: RefusedConnect;
}

/** The door. Nothing here rejects. */
export interface Door {
  admit(connection: Connection, connect: Connect): Promise<MqttHolder | RefusedAdmission>;
  opened(connection: Connection, who: Speaker): void;
  /** It ended before it was open. */
  refused(connection: Connection, reason: RefusedConnect): void;
  ended(connection: Connection, who: Speaker, reason: EndReason, now: number): void;
}

const BANNED: RefusedAdmission = { code: CONNACK.unavailable, reason: 'banned' };
/** What a peer is refused for by its own fault. Credentials are counted where they are checked, with their names. */
const OWN_FAULT: ReadonlySet<RefusedConnect> = new Set(['malformed', 'too-large', 'protocol', 'client-id']);
/** Ends that the client brought about. */
const OWN_END: ReadonlySet<EndReason> = new Set([
  'disconnect',
  'lost',
  'keep-alive',
  'malformed',
  'too-large',
  'flood',
  'slow',
]);

const addressOf = ({ addressKey }: Connection): Suspect[] =>
  addressKey === null ? [] : [{ kind: 'address', name: addressKey }];

/** While nobody knows who it is, its names count within its address only. */
function strangers(connection: Connection, { clientId, username }: Connect): Suspect[] {
  const { addressKey } = connection;
  if (addressKey === null) return [];
  const within = (kind: 'id' | 'user', name: string | null): Suspect[] =>
    name === null || name === '' ? [] : [{ kind, name: `address:${addressKey}\n${name}` }];
  return [...addressOf(connection), ...within('id', clientId), ...within('user', username)];
}

function idOf({ connect, holder }: Speaker): Suspect[] {
  return connect.clientId === '' ? [] : [{ kind: 'id', name: `${holderName(holder)}\n${connect.clientId}` }];
}

function userOf({ connect, holder }: Speaker): Suspect {
  return { kind: 'user', name: `${holderName(holder)}\n${connect.username ?? ''}` };
}

/** Creates the door. `failed` hears of a bus that cannot be asked; then nobody is kept out. */
export function createDoor(identity: EmbeddedIdentity, bans: Bans, failed: (error: unknown) => void): Door {
  async function guarded(work: Promise<boolean>): Promise<boolean> {
    try {
      return await work;
    } catch (error) {
      failed(error);
      return false;
    }
  }
  const banned = (suspects: readonly Suspect[]): Promise<boolean> =>
    guarded(bans.banned(suspects).then((suspect) => suspect !== null));
  const count = (suspects: readonly Suspect[]): Promise<boolean> => guarded(bans.count(suspects));

  return {
    async admit(connection, connect) {
      const stranger = strangers(connection, connect);
      if (await banned(stranger)) return BANNED;
      const holder = await checkCredentials(identity, connect);
      if (typeof holder === 'number') {
        if (holder === CONNACK.unavailable) return { code: holder, reason: 'unavailable' };
        await count(stranger);
        return { code: holder, reason: holder === CONNACK.credentials ? 'credentials' : 'forbidden' };
      }
      const who = { connect, holder };
      if (await banned([...idOf(who), userOf(who)])) return BANNED;
      return (await count(idOf(who))) ? BANNED : holder;
    },
    opened(connection, who) {
      for (const suspect of [userOf(who), ...addressOf(connection)]) bans.opened(suspect);
    },
    refused(connection, reason) {
      if (OWN_FAULT.has(reason)) void count(addressOf(connection));
    },
    ended(connection, who, reason, now) {
      const suspects = [userOf(who), ...addressOf(connection)];
      if (OWN_END.has(reason) && now - connection.beganAt < SHORT_LIFE_MS) void count(suspects);
      for (const suspect of suspects) bans.closed(suspect);
    },
  };
}
