/**
 * W3C Trace Context, level 1 and 2 (https://www.w3.org/TR/trace-context/): the header `traceparent`. Pure but for the
 * random ids, which come from a function that tests replace.
 * A malformed header starts a new trace, as section 2.2.2 asks; it is never an error.
 */
import { randomFillSync } from 'node:crypto';

/** One place in a trace. Ids are lower-case hex and never all zeros. */
export interface TraceContext {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits: this span, the parent of what follows. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** `bytes` random bytes as hex. */
export type RandomHex = (bytes: number) => string;

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
/** Longest header that is looked at; longer ones (of a later version) start a new trace. */
const MOST_CHARACTERS = 256;
const SAMPLED = 1;

/** Random bytes are drawn in blocks: one call to the system for 256 spans. */
const block: Buffer = Buffer.alloc(4096);
let used: number = block.length;

const randomHex: RandomHex = (bytes) => {
  if (used + bytes > block.length) {
    randomFillSync(block);
    used = 0;
  }
  used += bytes;
  return block.toString('hex', used - bytes, used);
};

/** Reads a `traceparent`; undefined when it is absent or malformed. */
export function parseTraceparent(header: string | undefined): TraceContext | undefined {
  if (header === undefined || header.length > MOST_CHARACTERS) return undefined;
  const match = TRACEPARENT.exec(header);
  if (match === null) return undefined;
  const [, version = '', traceId = '', spanId = '', flags = '', rest] = match;
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) === SAMPLED };
}

/** The header of a context, version 00. */
export function formatTraceparent(context: TraceContext): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`;
}

/** A new trace, sampled. */
export function newTrace(random: RandomHex = randomHex): TraceContext {
  return { traceId: nonZero(random, 16), spanId: nonZero(random, 8), sampled: true };
}

/** A new span of the same trace. */
export function childOf(parent: TraceContext, random: RandomHex = randomHex): TraceContext {
  return { ...parent, spanId: nonZero(random, 8) };
}

/** The `traceparent` of our own span: a child of the header's, or of nobody when that is absent or malformed. */
export function continueTrace(header: string | undefined, random: RandomHex = randomHex): string {
  const parent = parseTraceparent(header);
  return formatTraceparent(parent === undefined ? newTrace(random) : childOf(parent, random));
}

function nonZero(random: RandomHex, bytes: number): string {
  for (;;) {
    const id = random(bytes);
    if (!/^0+$/.test(id)) return id;
  }
}
