/**
 * Whether those who are connected still may be: the end of a token, a session that ended, a device that is no longer active, an
 * API key that was revoked. Looked at once a second (devices one in three looks); what identity announces counts at once.
 * Failure: while the store is away nobody loses a connection for it; the next look decides.
 */
import type { Connection } from './embedded-connection.ts';
import type { EmbeddedIdentity } from './embedded-options.ts';

/** Devices are looked at in one of so many looks. */
const DEVICE_LOOKS = 3;

/** The watch. */
export interface StandingWatch {
  /** Looks at all of them; ends those that may not stay. */
  look(connections: readonly Connection[], now: number): Promise<void>;
  /** Hears of sessions that end. Answers how to stop. */
  listen(connections: () => readonly Connection[]): () => void;
}

/** Creates it. */
export function createStandingWatch(identity: EmbeddedIdentity, failed: (error: unknown) => void): StandingWatch {
  let looking = false;
  let turn = 0;

  function end(
    connections: readonly Connection[],
    ids: Iterable<string>,
    name: (connection: Connection) => string | null,
  ): void {
    const ended = new Set(ids);
    if (ended.size === 0) return;
    for (const connection of connections) {
      const own = name(connection);
      if (own !== null && ended.has(own)) connection.close('credential');
    }
  }

  const dead = async <Value>(
    values: ReadonlyMap<string, Value>,
    lives: (value: Value) => Promise<boolean>,
  ): Promise<string[]> => {
    const found = await Promise.all([...values].map(async ([name, value]) => ((await lives(value)) ? [] : [name])));
    return found.flat();
  };

  async function lookAt(connections: readonly Connection[]): Promise<void> {
    const keys = new Map<string, string>();
    const devices = new Map<string, string>();
    const sessions = new Set<string>();
    for (const { speaker } of connections) {
      if (speaker === null) continue;
      const { holder } = speaker;
      if (holder.kind === 'key') keys.set(holder.id, holder.text);
      else {
        devices.set(holder.deviceId, holder.deviceId);
        sessions.add(holder.sessionId);
      }
    }
    end(connections, await dead(keys, async (text) => (await identity.apiKey(text)) !== null), keyOf);
    if (sessions.size > 0) end(connections, await identity.sessions.dead([...sessions]), sessionOf);
    turn = (turn + 1) % DEVICE_LOOKS;
    if (turn === 0) end(connections, await dead(devices, (id) => identity.deviceActive(id)), deviceOf);
  }

  return {
    async look(connections, now) {
      for (const connection of connections) {
        const holder = connection.speaker?.holder;
        if (holder?.kind === 'device' && holder.expiresAt <= now) connection.close('credential');
      }
      if (looking) return;
      looking = true;
      try {
        await lookAt(connections);
      } catch (error) {
        failed(error);
      } finally {
        looking = false;
      }
    },
    listen: (connections) => identity.sessions.onEnded((ids) => end(connections(), ids, sessionOf)),
  };
}

function keyOf({ speaker }: Connection): string | null {
  return speaker?.holder.kind === 'key' ? speaker.holder.id : null;
}

function sessionOf({ speaker }: Connection): string | null {
  return speaker?.holder.kind === 'device' ? speaker.holder.sessionId : null;
}

function deviceOf({ speaker }: Connection): string | null {
  return speaker?.holder.kind === 'device' ? speaker.holder.deviceId : null;
}
