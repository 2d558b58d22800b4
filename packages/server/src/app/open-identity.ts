/** Identity over the store, with what the settings say of it: the same for the server and for the command line. */
import type { Bus } from '../bus/ports/bus.ts';
import type { IdentityEvent } from '../identity/events.ts';
import { createIdentity, type Identity } from '../identity/identity.ts';
import type { Clock } from '../lib/clock.ts';
import type { Database } from '../store/ports/database.ts';
import { createApiKeyStore } from '../store/postgres/api-keys.ts';
import { createCertificateStore } from '../store/postgres/certificate-holders.ts';
import { createSessionStore } from '../store/postgres/sessions.ts';
import { createSigningKeyStore } from '../store/postgres/signing-keys.ts';
import { createTicketStore } from '../store/postgres/tickets.ts';
import { createUserStore } from '../store/postgres/users.ts';
import type { Settings } from './settings.ts';

/** What {@link openIdentity} stands on. */
export interface IdentityGround {
  /** For what the way of an alarm asks: keys, sessions, tickets. */
  readonly db: Database;
  /** For people: sign-in, users. */
  readonly front: Database;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly clusterSecret: string;
  /** How the outside calls us: the issuer, unless JWT_ISSUER says otherwise. */
  readonly publicUrl: string;
  readonly onEvent: (event: IdentityEvent) => void;
}

/** Opens it; rejects as `createIdentity` does. */
export function openIdentity(settings: Settings, ground: IdentityGround): Promise<Identity> {
  const { db, front, bus, clock, clusterSecret, publicUrl, onEvent } = ground;
  return createIdentity({
    db: front,
    stores: {
      users: createUserStore(front),
      sessions: createSessionStore(db),
      tickets: createTicketStore(db),
      apiKeys: createApiKeyStore(db),
      signingKeys: createSigningKeyStore(db),
      certificates: createCertificateStore(db),
    },
    bus,
    clock,
    settings: {
      clusterSecret,
      tokenAlgorithm: settings.jwtAlgorithm,
      issuer: settings.jwtIssuer ?? publicUrl,
      audience: settings.jwtAudience,
      skewSeconds: settings.jwtClockSkewSeconds,
      accessTokenMinutes: settings.accessTokenMinutes,
      jwksUrl: settings.jwksUrl ?? undefined,
    },
    onEvent,
  });
}
