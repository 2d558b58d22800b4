/** Which of two forms of an alert a client wants: the header `Accept` (RFC 9110 section 12.5.1). Pure. */

/** The longest header that is looked at; a longer one counts as none. */
const ACCEPT_CHARACTERS = 2048;
const QUALITY = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

interface Range {
  readonly type: string;
  readonly subtype: string;
  readonly quality: number;
}

/**
 * The offer that the client likes best; of equals the first. The most specific range that fits an offer decides about
 * it. When none is welcome, and without a header that can be read, the first: RFC 9110 lets a server answer anyway, and
 * an alert in the wrong form is better than none.
 */
export function preferredType<Offer extends string>(
  accept: string | undefined,
  offers: readonly [Offer, ...Offer[]],
): Offer {
  const ranges = accept === undefined || accept.length > ACCEPT_CHARACTERS ? [] : accept.split(',').flatMap(readRange);
  let best: Offer = offers[0];
  let bestQuality = 0;
  for (const offer of offers) {
    const quality = qualityOf(offer, ranges);
    if (quality > bestQuality) {
      best = offer;
      bestQuality = quality;
    }
  }
  return best;
}

function qualityOf(offer: string, ranges: readonly Range[]): number {
  const [type, subtype] = offer.split('/');
  const exact = ranges.find((range) => range.type === type && range.subtype === subtype);
  const ofType = ranges.find((range) => range.type === type && range.subtype === '*');
  const any = ranges.find((range) => range.type === '*' && range.subtype === '*');
  return (exact ?? ofType ?? any)?.quality ?? 0;
}

function readRange(text: string): Range[] {
  const [media = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const [type = '', subtype = '', ...more] = media.split('/');
  if (type === '' || subtype === '' || more.length > 0) return [];
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  if (weight !== undefined && !QUALITY.test(weight)) return [];
  return [{ type, subtype, quality: weight === undefined ? 1 : Number(weight) }];
}
