/**
 * Butterworth filters as cascades of second-order sections, designed by the bilinear transform with prewarped corners
 * (Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 7), as scipy.signal.butter(output='sos') and ObsPy do.
 * Each section of the band-pass has its zeros at 0 Hz and at Nyquist, gain 1 at the centre of the band.
 */

/** Coefficients of one section, a0 = 1: y = b0 x + b1 x' + b2 x'' - a1 y' - a2 y''. */
export interface Section {
  readonly b0: number;
  readonly b1: number;
  readonly b2: number;
  readonly a1: number;
  readonly a2: number;
}

/**
 * Band-pass of `order` poles on each side (ObsPy's `corners`), from `lowHz` to `highHz`, for `rate` samples a second:
 * `order` sections. Needs 0 < lowHz < highHz < rate / 2.
 */
export function butterworthBandPass(order: number, lowHz: number, highHz: number, rate: number): readonly Section[] {
  const warp = (hz: number): number => 2 * rate * Math.tan((Math.PI * hz) / rate);
  const [low, high] = [warp(lowHz), warp(highHz)];
  const width = high - low;
  const centre = Math.sqrt(low * high);
  const poles: Complex[] = [];
  for (let k = 0; k < order; k += 1) {
    const angle = (Math.PI * (2 * k + 1 + order)) / (2 * order);
    // Low-pass to band-pass: s^2 - p s + centre^2 = 0 for each pole p of the prototype.
    const half: Complex = [(Math.cos(angle) * width) / 2, (Math.sin(angle) * width) / 2];
    const root = squareRoot([half[0] ** 2 - half[1] ** 2 - centre ** 2, 2 * half[0] * half[1]]);
    poles.push([half[0] + root[0], half[1] + root[1]], [half[0] - root[0], half[1] - root[1]]);
  }
  const pairs = conjugates(poles.map(([re, im]) => divide([2 * rate + re, im], [2 * rate - re, -im])));
  // Where the analogue centre lies after the bilinear transform; the gain there is 1.
  const middle = 2 * Math.atan(centre / (2 * rate));
  return pairs.map(([a1, a2]) => {
    const gain = 1 / magnitude({ b0: 1, b1: 0, b2: -1, a1, a2 }, middle);
    return { b0: gain, b1: 0, b2: -gain, a1, a2 };
  });
}

/** Gain of the cascade at `hz`. */
export function gainOf(sections: readonly Section[], hz: number, rate: number): number {
  return sections.reduce((gain, section) => gain * magnitude(section, (2 * Math.PI * hz) / rate), 1);
}

type Complex = readonly [re: number, im: number];

function squareRoot([re, im]: Complex): Complex {
  const size = Math.hypot(re, im);
  const imaginary = Math.sqrt(Math.max(0, (size - re) / 2));
  return [Math.sqrt(Math.max(0, (size + re) / 2)), im < 0 ? -imaginary : imaginary];
}

function divide([a, b]: Complex, [c, d]: Complex): Complex {
  const size = c * c + d * d;
  return [(a * c + b * d) / size, (b * c - a * d) / size];
}

/** Denominators (a1, a2) of poles: one for each conjugate pair, one for each two real ones. */
function conjugates(poles: readonly Complex[]): readonly Complex[] {
  const edge = 1e-12;
  const upper = poles.filter(([, im]) => im > edge);
  const real = poles.filter(([, im]) => Math.abs(im) <= edge).map(([re]) => re);
  const pairs: Complex[] = upper.map(([re, im]) => [-2 * re, re * re + im * im]);
  for (let i = 0; i + 1 < real.length; i += 2) {
    const [one = 0, two = 0] = [real[i], real[i + 1]];
    pairs.push([-(one + two), one * two]);
  }
  return pairs;
}

function magnitude({ b0, b1, b2, a1, a2 }: Section, omega: number): number {
  const [c1, s1, c2, s2] = [Math.cos(omega), Math.sin(omega), Math.cos(2 * omega), Math.sin(2 * omega)];
  const above = Math.hypot(b0 + b1 * c1 + b2 * c2, b1 * s1 + b2 * s2);
  return above / Math.hypot(1 + a1 * c1 + a2 * c2, a1 * s1 + a2 * s2);
}
