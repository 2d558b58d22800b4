/** Stage: whoever publishes on a device's topic speaks as that device. For envelopes of MQTT. */
import type { Stage } from './stage.ts';

/** 403 unless the envelope's `kid` is the device that the topic names. */
export const ownTopic: Stage = ({ deviceId, topicDevice }) =>
  deviceId === topicDevice
    ? null
    : { code: 'device-mismatch', detail: 'The envelope is of another device than the topic' };
