/**
 * Every number of the earthquake detectors, with its source where it has one outside: seismology and the physics of cheap
 * accelerometers. Some were chosen between usual values after seeing the eight recordings, the high corner and the rules
 * of the lanes among them; `docs/detection.md` says which. Types and data only; `detectors/` holds the algorithms.
 */

/** How a station's waveform becomes picks. */
export interface PickerParameters {
  /**
   * Corners of the Butterworth band-pass, Hz. Local earthquakes within some 200 km radiate most of their acceleration
   * between 1 and 10 Hz (Havskov & Ottemöller 2010, Routine Data Processing, ch. 3 and 4); below 1 Hz tilt and drift of
   * cheap accelerometers rule (Evans et al. 2014, Seismol. Res. Lett. 85), above 10 Hz their white noise, for attenuation near
   * the surface leaves little signal there (fmax of 5 to 10 Hz for kappa 0.04 s, Anderson & Hough 1984).
   */
  readonly lowHz: number;
  readonly highHz: number;
  /** Poles of the prototype; the band-pass has twice as many. 2 to 4 are usual; the fewer, the shorter the ringing. */
  readonly order: number;
  /** High corner at most this share of the sampling rate (Nyquist is 0.5). */
  readonly highShare: number;
  /** Slowest rate whose band is still worth watching, Hz: twice two octaves above the low corner. */
  readonly leastHz: number;
  /** Fastest rate, Hz: ten times that of a strong-motion station (200 Hz), as live readings are held to. */
  readonly mostHz: number;
  /** Window of the short-term average, s. Local events: 0.3 to 0.5 s (Trnkoczy 2012, NMSOP-2, IS 8.1; ObsPy's example 0.5 s). */
  readonly staSeconds: number;
  /** Window of the long-term average, s: 30 s to 60 s (Trnkoczy 2012). */
  readonly ltaSeconds: number;
  /** Data before the first pick, s: 20 short windows. Withers et al. (1998) ask for windows at least 5 to 10 times apart. */
  readonly warmSeconds: number;
  /** Seconds after a gap in which the filter settles: one period of the low corner. */
  readonly settleSeconds: number;
  /** Time constant of the running mean that is taken off first, s (SeisComP scautopick: `RMHP(10)`). */
  readonly meanSeconds: number;
  /**
   * A trigger begins when the ratio is this unlikely in Gaussian noise, in standard deviations. 4.5 is once in 300 000
   * independent windows. What ratio that is follows from bandwidth and
   * window (chi-square with 4 B T degrees of freedom for a recursive average, Wilson & Hilferty 1931).
   */
  readonly onSigma: number;
  /**
   * One sample teaches the noise level no more than as many times the level: in Gaussian noise its energy (chi-square of
   * one degree) is over it as rarely as a trigger begins, 4.5 standard deviations. Else one bump at full scale, a
   * thousand times the noise, would make the station deaf for minutes.
   */
  readonly mostTaught: number;
  /** A trigger ends below this ratio of energies (SeisComP's scautopick: 1.5). */
  readonly offRatio: number;
  /** A trigger that lasts longer is not an earthquake's; the noise level starts anew, s. Strong motion of the largest lasts 2 to 3 minutes. */
  readonly longestSeconds: number;
  /**
   * Least noise of an axis in the band, m/s², rms: less is quantisation, or a sensor that sleeps. The quietest cheap
   * accelerometers have 20 to 25 µg/√Hz (ADXL355 data sheet: 22.5), that is 0.00066 m/s² over 9 Hz; a third of it.
   */
  readonly floor: number;
  /** Least peak of a pick, m/s²: 0.1 gal. What is weaker shakes no one 100 km around (JMA: intensity 0 below 0.8 gal). */
  readonly leastAmplitude: number;
  /**
   * A pick needs its energy spread over as much time, in units of 1 / bandwidth (participation: the square of the sum
   * over the sum of squares of the energies). The filter's answer to a glitch or a step stays below 1.5, see the test.
   * Serves what Allen (1978) does by counting zero crossings.
   */
  readonly leastSpread: number;
  /** Ratio of the short-term average to one of `jumpSeconds` that makes a new arrival within a trigger; 13 times the energy reach 3. */
  readonly jumpRatio: number;
  /** That longer window, s; the second arrival comes at least as long after the first: a source 25 km away. */
  readonly jumpSeconds: number;
  /** A growing amplitude is told of again when it is this many times what was told last. */
  readonly growth: number;
  /** A pick is told of once more when it has lasted so long, s. */
  readonly lastingSeconds: number;
  /** Times that one pick is told of at most. */
  readonly mostUpdates: number;
  /** Differences between packets that count as none, s: drift of a sampling clock of 5 % in a packet of a second. */
  readonly bridgeSeconds: number;
  /** After a longer gap the noise level is learnt anew, s. */
  readonly forgetSeconds: number;
  /** Packets in a row that must agree on another time before a clock that was set back is believed. */
  readonly clockPackets: number;
  /** Constant samples from which an axis teaches nothing, s, and from which the sensor counts as stuck, s. */
  readonly constantSeconds: number;
  readonly stuckSeconds: number;
  /** Least delay that cannot be the network's: the clock is wrong, ms. Mobile networks need some 100 ms, at worst a second. */
  readonly clockToleranceMs: number;
  /** How fast the least delay may rise again, ms for each second: twice the worst drift of a cheap quartz (100 ppm) would be 0.2. */
  readonly clockCreep: number;
  /** How long a station's clock is watched before its picks are told, s. */
  readonly clockSeconds: number;
  /** A pick that arrives later than this raises no live alert, ms. */
  readonly liveMs: number;
  /** A station says that it is alive as often, s. */
  readonly aliveSeconds: number;
}

/** How picks become events. */
export interface NetworkParameters {
  /** Votes that make an event. */
  readonly quorum: number;
  /**
   * Speeds, km/s, and depth, km, of the travel times: the crust's P waves (6 to 7 km/s), P over S = 1.73 (a Poisson
   * solid). ShakeAlert's EPIC takes 6.0 km/s and a fixed depth, OpenEEW 20 km.
   */
  readonly pSpeed: number;
  readonly sSpeed: number;
  readonly depthKm: number;
  /** Residual allowed, s, and its part of the travel time: errors of picks and clocks, structure. EPIC allows 3.0 s between two stations. */
  readonly toleranceSeconds: number;
  readonly toleranceShare: number;
  /** Farthest station of a new event, km (EPIC: MultiStaMaxDist 200). */
  readonly reachKm: number;
  /** Farthest station that joins a known event, km. */
  readonly joinKm: number;
  /** Picks that are searched for one event at most; the nearest in time go first. */
  readonly mostCandidates: number;
  /** Share of the stations within the event's reach that must have felt it by now. EPIC: 40 %. */
  readonly leastShare: number;
  /** Within so many seconds of its expected P wave a station is not yet expected to have told, s (a packet and the network). */
  readonly tellSeconds: number;
  /** A station that has not been heard of for longer is not expected to tell, s. */
  readonly aliveSeconds: number;
  /**
   * Fast lane: the least ratio of energies of three, and of two stations (5 and 10 times the amplitude of their noise,
   * where the chance of a wrong trigger is gone and only a local cause is left), and the least peak, m/s²: shaking that
   * people begin to feel (1.4 gal is intensity II, Worden et al. 2012; first seconds of a P wave that S waves outgrow).
   */
  readonly fastThreeLevel: number;
  readonly fastTwoLevel: number;
  readonly fastAmplitude: number;
  /** How long that shaking has lasted, s: longer than a bump, and until the packets of the others are here. */
  readonly fastSeconds: number;
  /** Stations of the fast lane lie at least this far apart, km: nearer ones may feel the same lorry or blast. */
  readonly apartKm: number;
  /** Two stations make an event only within this distance of each other, km. */
  readonly fastTwoKm: number;
  /** Onsets of three or more this close together, s (the picker's own scatter), over more than `spikeKm` are no wave but the mains. */
  readonly spikeSeconds: number;
  readonly spikeKm: number;
  /** Chance picks of a healthy station, 1/h, the memory of its rate, s, and the window of a coincidence, s: the weight of its vote. */
  readonly healthyPerHour: number;
  readonly busySeconds: number;
  readonly chanceSeconds: number;
  /**
   * Decay of the bar for another event, s (SeisComP scautopick: A_prev * exp(-(dt/T)^2)), and its height at first, times
   * the amplitude that a station had from the last one: half a unit of magnitude is 2.3 times (0.73 a unit, Cua & Heaton).
   */
  readonly deadSeconds: number;
  readonly larger: number;
  /** Late phases, s after the S wave's window, that still belong to an event at a station that had not told before (Lg, surface waves: 2.5 km/s over 200 km). */
  readonly lateSeconds: number;
  /** An event that gained nothing for so long has ended, s. */
  readonly endSeconds: number;
  /** An event that grows is told of again when it has as many times the stations. */
  readonly growth: number;
}

/** The picker's numbers. */
export const PICKER: PickerParameters = {
  lowHz: 1,
  highHz: 10,
  order: 2,
  highShare: 0.4,
  leastHz: 8,
  mostHz: 2000,
  staSeconds: 0.5,
  ltaSeconds: 30,
  warmSeconds: 10,
  settleSeconds: 1,
  meanSeconds: 10,
  onSigma: 4.5,
  mostTaught: 20,
  offRatio: 1.5,
  longestSeconds: 180,
  floor: 0.0002,
  leastAmplitude: 0.001,
  leastSpread: 2,
  jumpRatio: 3,
  jumpSeconds: 3,
  growth: 1.5,
  lastingSeconds: 1.5,
  mostUpdates: 12,
  bridgeSeconds: 0.1,
  forgetSeconds: 60,
  clockPackets: 5,
  constantSeconds: 0.5,
  stuckSeconds: 10,
  clockToleranceMs: 1500,
  clockCreep: 0.2,
  clockSeconds: 10,
  liveMs: 60_000,
  aliveSeconds: 60,
};

/** The network's numbers. */
export const NETWORK: NetworkParameters = {
  quorum: 4,
  pSpeed: 6.5,
  sSpeed: 6.5 / 1.73,
  depthKm: 20,
  toleranceSeconds: 2,
  toleranceShare: 0.05,
  reachKm: 200,
  joinKm: 1000,
  mostCandidates: 32,
  leastShare: 0.4,
  tellSeconds: 2,
  aliveSeconds: 150,
  fastThreeLevel: 25,
  fastTwoLevel: 100,
  fastAmplitude: 0.01,
  fastSeconds: 1.5,
  apartKm: 5,
  fastTwoKm: 60,
  spikeSeconds: 0.25,
  spikeKm: 20,
  healthyPerHour: 1,
  busySeconds: 600,
  chanceSeconds: 20,
  deadSeconds: 60,
  larger: 2,
  lateSeconds: 30,
  endSeconds: 120,
  growth: 1.5,
};
