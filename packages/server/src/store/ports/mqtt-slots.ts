/**
 * Slots of the link to an outside MQTT broker, as the store keeps them. A slot is a client id at the broker, and with it a
 * session of which the broker keeps what has not been acknowledged; one process at a time holds it, by a lease of the
 * store's clock.
 *
 * Guarantees: a fence is never given twice. Whoever lost a slot changes nothing about it any more.
 * Failure: `store-unavailable`.
 */

/** A slot that is held. */
export interface MqttSlot {
  readonly number: number;
  readonly fence: number;
  /** Topic filters that its session may be subscribed to. */
  readonly filters: readonly string[];
}

/** What a holder writes down about its slot. */
export interface MqttSlotNote {
  readonly filters: readonly string[];
  /** The broker shares subscriptions: further slots may take part. */
  readonly shared: boolean;
}

/** The slots of an installation. */
export interface MqttSlots {
  /** The name of this installation at the broker: 12 hex digits, made by the first call. */
  installation(): Promise<string>;
  /**
   * A slot to work with: number 0 when nobody holds it; else, where the broker shares subscriptions, one that nobody holds
   * any more or a new one; null: somebody works in slot 0, and one is enough.
   */
  claim(owner: string, leaseMs: number): Promise<MqttSlot | null>;
  /** One that nobody holds any more, so that what its session keeps is taken; null when there is none. */
  adopt(owner: string, leaseMs: number): Promise<MqttSlot | null>;
  /**
   * Extends the lease, also one that ran out meanwhile, and answers how many owners hold slots now, this one included;
   * null: the slot is another one's now.
   */
  renew(slot: MqttSlot, leaseMs: number): Promise<number | null>;
  /** Writes the note; false: the slot is another one's now. */
  note(slot: MqttSlot, note: MqttSlotNote): Promise<boolean>;
  /** Gives the slot up; its session stays at the broker for whoever comes next. */
  release(slot: MqttSlot): Promise<void>;
  /** The session has been ended: there is no such slot any more. */
  remove(slot: MqttSlot): Promise<void>;
}
