/** The profiles and detectors of this installation, with their parameters, in the shapes that ingest and workers take. */
import type { ProfileName } from '@tocsin/protocol/envelope';
import { connectionSpikeDetector, SPIKE } from '../detectors/connection-spike.ts';
import type { Detector } from '../detectors/detector.ts';
import { hostDetector, hostWatchers } from '../detectors/host.ts';
import { networkDetector } from '../detectors/network.ts';
import { silenceWatcher } from '../detectors/silence.ts';
import { silentHostsDetector } from '../detectors/silent-hosts.ts';
import { stationWatcher } from '../detectors/station-watcher.ts';
import { swarmDetector } from '../detectors/swarm.ts';
import type { ParseReading } from '../ingest/schema.ts';
import { decodeEnvelope } from '../profiles/decode.ts';
import { hostProfile } from '../profiles/host/host.ts';
import { mobileProfile } from '../profiles/mobile/mobile.ts';
import type { Profile, Watcher } from '../profiles/profile.ts';
import { NETWORK, PICKER } from '../profiles/seismic/detection.ts';
import { seismicProfile } from '../profiles/seismic/seismic.ts';
import type { Meaning } from '../workers/batch.ts';

/** The settings that give readings their meaning. */
export interface MeaningSettings {
  readonly swarmSensors: number;
  readonly swarmWindowSeconds: number;
  readonly swarmCooldownSeconds: number;
  readonly liveReadingSeconds: number;
  readonly cpuAlertPercent: number;
  /** null: off; these three. */
  readonly memoryAlertPercent: number | null;
  readonly diskAlertPercent: number | null;
  readonly gpuAlertPercent: number | null;
  readonly pruneSeconds: number;
  readonly alertCooldownSeconds: number;
}

/** What ingest and workers need of profiles and detectors. */
export interface MeaningOfReadings {
  readonly parsers: Readonly<Record<ProfileName, ParseReading>>;
  readonly meaning: Meaning;
}

/** Builds both from the settings. */
export function createMeaning(settings: MeaningSettings): MeaningOfReadings {
  const windowMs = settings.swarmWindowSeconds * 1000;
  const liveMs = settings.liveReadingSeconds * 1000;
  const station = stationWatcher({ ...PICKER, liveMs });
  const profiles: Readonly<Record<ProfileName, Profile>> = {
    seismic: seismicProfile({ windowMs, liveMs, watchers: [station as Watcher<unknown>] }),
    host: hostProfile({ watchers: watchersOfHosts(settings, liveMs) }),
    mobile: mobileProfile,
  };
  const cooldownMs = settings.swarmCooldownSeconds * 1000;
  const swarm = swarmDetector({ sensors: settings.swarmSensors, windowMs, cooldownMs, liveMs });
  // States and inputs of detectors are their own affair; the worker only carries them.
  const ofZone = [swarm as Detector<unknown, unknown>];
  const ofNetwork = [networkDetector(NETWORK) as Detector<unknown, unknown>];
  const ofDevice = [hostDetector() as Detector<unknown, unknown>];
  const ofHosts = [silentHostsDetector() as Detector<unknown, unknown>];
  const ofSystem = [connectionSpikeDetector(SPIKE) as Detector<unknown, unknown>];
  return {
    parsers: { seismic: profiles.seismic.parse, host: profiles.host.parse, mobile: profiles.mobile.parse },
    meaning: {
      decode: ({ kind, body }) =>
        decodeEnvelope(profiles, kind === 'original' || kind === 'frame' ? kind : 'envelope', body),
      measure: (profile, reading) => profiles[profile].measure(reading),
      notice: (profile, origin, readings) => profiles[profile].notice(origin, readings),
      watchers: (profile) => profiles[profile].watchers,
      detectors: (key) => {
        if (key.startsWith('zone:')) return ofZone;
        if (key.startsWith('device:')) return ofDevice;
        if (key.startsWith('hosts:')) return ofHosts;
        if (key.startsWith('system:')) return ofSystem;
        return key.startsWith('network:') ? ofNetwork : [];
      },
    },
  };
}

function watchersOfHosts(settings: MeaningSettings, liveMs: number): Watcher<unknown>[] {
  const limits = {
    cpu: settings.cpuAlertPercent,
    memory: settings.memoryAlertPercent,
    disk: settings.diskAlertPercent,
    gpu: settings.gpuAlertPercent,
  };
  const thresholds = hostWatchers({ limits, cooldownMs: settings.alertCooldownSeconds * 1000, liveMs });
  return [...thresholds, silenceWatcher({ leastMs: settings.pruneSeconds * 1000 })] as Watcher<unknown>[];
}
