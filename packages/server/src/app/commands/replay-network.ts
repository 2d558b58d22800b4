/**
 * The detectors offline: every message through its station's picker, what it tells through the network, at once and in
 * order. The same functions as live, where the log lies between the two.
 */
import type { Finding } from '../../detectors/detector.ts';
import type { NetworkInput, NetworkState } from '../../detectors/network-state.ts';
import { networkDetector } from '../../detectors/network.ts';
import { createStationPicker } from '../../detectors/station.ts';
import type { StationState } from '../../detectors/station-state.ts';
import type { Place } from '../../detectors/travel.ts';
import { NETWORK, PICKER, type NetworkParameters, type PickerParameters } from '../../profiles/seismic/detection.ts';
import type { RecordedMessage } from './replay-recording.ts';

/** An alert of a replay: its finding when it was decided and the last one, and the arrival that decided it, Unix ms. */
export interface ReplayAlert {
  readonly first: Finding;
  readonly decidedAt: number;
  latest: Finding;
  revisions: number;
}

/** A replay from fresh state. */
export interface Replay {
  /** One message; answers the alert that it decided, if any, and what the station told. */
  message(message: RecordedMessage): { readonly alert: ReplayAlert | null; readonly heard: readonly NetworkInput[] };
  readonly alerts: () => readonly ReplayAlert[];
  /** Devices that sent and have no place. */
  readonly placeless: () => readonly string[];
}

/** How a replay may differ from the live path: parameters of experiments. */
export interface ReplayOptions {
  readonly picker?: PickerParameters;
  readonly network?: NetworkParameters;
}

const KEY = 'network:replay';

/** Starts one. */
export function createReplay(stations: ReadonlyMap<string, Place>, options: ReplayOptions = {}): Replay {
  const picker = createStationPicker(options.picker ?? PICKER);
  const detector = networkDetector(options.network ?? NETWORK);
  const states = new Map<string, StationState | null>();
  const alerts = new Map<number, ReplayAlert>();
  const placeless = new Set<string>();
  let network: NetworkState | null = null;

  const tell = (finding: Finding, now: number): ReplayAlert | null => {
    const known = alerts.get(finding.onset);
    if (known !== undefined) {
      known.latest = finding;
      known.revisions += 1;
      return null;
    }
    const alert: ReplayAlert = { first: finding, decidedAt: now, latest: finding, revisions: 1 };
    alerts.set(finding.onset, alert);
    return alert;
  };

  return {
    message({ deviceId, packet, now }) {
      const place = stations.get(deviceId);
      if (place === undefined) {
        placeless.add(deviceId);
        return { alert: null, heard: [] };
      }
      const step = picker.step(states.get(deviceId) ?? null, packet, now);
      states.set(deviceId, step.state);
      const { latitude, longitude } = place;
      const heard = step.told.map((told): NetworkInput => ({ ...told, latitude, longitude, deviceId, envelopeId: '' }));
      let decided: ReplayAlert | null = null;
      for (const input of heard) {
        const { state, findings } = detector.step(network, KEY, input, now);
        network = state;
        for (const finding of findings) decided = tell(finding, now) ?? decided;
      }
      return { alert: decided, heard };
    },
    alerts: () => [...alerts.values()],
    placeless: () => [...placeless],
  };
}
