/**
 * Ground motion as a cheap three-axis accelerometer records it: packets of 32 samples at 31.25 Hz, so that a packet takes
 * exactly 1,024 ms and the next begins where it ends. Noise of the sensor everywhere; in an earthquake shaking of 2 to
 * 8 Hz that grows and dies away after the P and, stronger and longer, after the S wave.
 *
 * Cheap on purpose (about 20 µs a packet): noise and shaking are read from tables at places that chance names.
 */
import type { WaveformReading } from '@tocsin/protocol/envelope';
import type { Felt } from './earthquake.ts';
import { createRandom, type Random } from './random.ts';

/** Samples a second. */
export const SAMPLE_HZ = 31.25;
/** Samples of a packet, and how long it takes, ms. */
export const PACKET_SAMPLES = 32;
/** See {@link PACKET_SAMPLES}. */
export const PACKET_MS = 1024;
/** Shaking that is still told of so long after the S wave, ms. */
export const SHAKING_MS = 40_000;

const SAMPLE_MS = 1000 / SAMPLE_HZ;
/** Noise of such a sensor, m/s², rms (MMA8452Q data sheet: 99 to 126 µg/√Hz; over 15 Hz some 0.004). */
const NOISE = 0.004;
const TABLE = 8192;
const LOW_HZ = 2;
const HIGH_HZ = 8;
const TONES = 48;

/** Table of Gaussian noise, and of Gaussian noise between 2 and 8 Hz; both of unit deviation. */
interface Tables {
  readonly noise: Float64Array;
  readonly band: Float64Array;
}

let made: Tables | null = null;

function tables(): Tables {
  if (made !== null) return made;
  const random = createRandom('waveform tables');
  const noise = Float64Array.from({ length: TABLE }, () => random.normal());
  // A sum of tones whose periods divide the table, so that its end meets its beginning.
  const band = new Float64Array(TABLE);
  const perHz = TABLE / SAMPLE_HZ;
  for (let tone = 0; tone < TONES; tone += 1) {
    const cycles = Math.round((LOW_HZ + ((HIGH_HZ - LOW_HZ) * (tone + random.uniform())) / TONES) * perHz);
    const phase = 2 * Math.PI * random.uniform();
    const scale = Math.sqrt(2 / TONES);
    for (let i = 0; i < TABLE; i += 1)
      band[i] = (band[i] ?? 0) + scale * Math.sin((2 * Math.PI * cycles * i) / TABLE + phase);
  }
  made = { noise, band };
  return made;
}

/** A wave's share of its peak, `ms` after its onset: there within 150 ms or 600 ms, then dying away. */
function strength(ms: number, riseMs: number, fadeMs: number): number {
  if (ms <= 0) return 0;
  return ms < riseMs ? ms / riseMs : Math.exp((riseMs - ms) / fadeMs);
}

/** The strength of shaking of a station at a time of the run, m/s² of deviation: along the P and along the S wave. */
function shaking(felt: Felt, ms: number): { readonly p: number; readonly s: number } {
  // A peak of some hundred samples is about three deviations.
  return {
    p: (felt.pPeak / 3) * strength(ms - felt.pMs, 150, 6000),
    s: (felt.sPeak / 3) * strength(ms - felt.sMs, 600, 9000),
  };
}

/**
 * The packet of a station whose first sample is taken at `fromMs` of the run; `at` is that moment in Unix ms. `station`
 * tells stations apart, `felt` are the earthquakes that may still be shaking it.
 */
export function waveformPacket(
  station: number,
  fromMs: number,
  at: number,
  felt: readonly Felt[],
  random: Random,
): WaveformReading {
  const { noise, band } = tables();
  const axis = (direction: number): number[] => {
    const from = random.integer(TABLE);
    // The P wave pushes up and down, the S wave sideways.
    const [ofP, ofS] = direction === 2 ? [1, 0.5] : [0.4, 1];
    return Array.from({ length: PACKET_SAMPLES }, (_, i) => {
      let value = NOISE * (noise[(from + i) % TABLE] ?? 0);
      const ms = fromMs + i * SAMPLE_MS;
      for (const one of felt) {
        const { p, s } = shaking(one, ms);
        if (p + s === 0) continue;
        const place = Math.abs(Math.round(ms / SAMPLE_MS) + station * 977 + direction * 2741) % TABLE;
        value += (ofP * p + ofS * s) * (band[place] ?? 0);
      }
      return Math.round(value * 1e5) / 1e5;
    });
  };
  return { at, rate: SAMPLE_HZ, x: axis(0), y: axis(1), z: axis(2) };
}
