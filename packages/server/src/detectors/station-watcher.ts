/**
 * Live waveforms: the station's picker as a watcher of one device. Each packet goes through the same picker as in a
 * replay; what it tells goes on under the network's key, and the first word of each pick as a trigger to its zone's swarm.
 *
 * A device without a place takes no part in the network, one without a zone in no swarm. A packet older than `liveMs` at
 * its arrival is not looked at: it could only be mistaken for a clock that is wrong.
 *
 * A second arrival within the shaking is told as one: it is an S wave nearly always, several times its P wave, and would
 * break through the cool-down of the swarm that the P waves made. A larger earthquake right then is the network's to tell.
 */
import type { Reading, WaveformReading } from '@tocsin/protocol/envelope';
import type { Notice, Origin, Watcher, WatcherStep } from '../profiles/profile.ts';
import type { PickerParameters } from '../profiles/seismic/detection.ts';
import type { Trigger } from '../profiles/seismic/trigger.ts';
import type { NetworkInput } from './network-state.ts';
import { createStationPicker } from './station.ts';
import type { Pick, StationState, Told } from './station-state.ts';

/** The key of the one network that all stations with a place belong to. */
export const NETWORK_KEY = 'network:seismic';

/** A station that was silent for so long is forgotten, ms. Its noise level counts for nothing after a gap of a minute. */
const IDLE_MS = 3_600_000;

/** Builds the watcher; `parameters.liveMs` is the age from which a packet is only stored. */
export function stationWatcher(parameters: PickerParameters): Watcher<StationState> {
  const picker = createStationPicker(parameters);
  return {
    name: 'station',
    step: (state, origin, reading) => {
      if (!isWaveform(reading) || origin.now - reading.at > parameters.liveMs) return { state, notices: [] };
      const { at, rate, x, y, z } = reading;
      const step = picker.step(state, { at, rate, axes: [x, y, z] }, origin.now);
      return {
        state: step.state,
        notices: step.told.flatMap((told) => noticesOf(state, origin, told)),
      } satisfies WatcherStep<StationState>;
    },
    tick: (state, _deviceId, now) => ({ state: now - state.clock.heardAt > IDLE_MS ? null : state, findings: [] }),
  };
}

function isWaveform(reading: Reading): reading is WaveformReading {
  return 'rate' in reading;
}

function noticesOf(before: StationState | null, origin: Origin, told: Told): Notice[] {
  const { deviceId, envelopeId, zoneId, place } = origin;
  const notices: Notice[] = [];
  if (place !== null) {
    const { latitude, longitude } = place;
    const input: NetworkInput = { ...told, latitude, longitude, deviceId, envelopeId };
    notices.push({ key: NETWORK_KEY, item: input });
  }
  if (zoneId !== null && told.kind === 'pick' && isFirst(before, told)) {
    const { at, amplitude, again } = told;
    const trigger: Trigger = { at, amplitude, deviceId, envelopeId, ...(again ? { again } : {}) };
    notices.push({ key: `zone:${zoneId}`, item: trigger });
  }
  return notices;
}

/** False for a pick that was told before: it can only be that of the trigger that was still open. */
function isFirst(before: StationState | null, { at }: Pick): boolean {
  const open = before?.trigger ?? null;
  return open === null || open.told === 0 || open.at !== at;
}
