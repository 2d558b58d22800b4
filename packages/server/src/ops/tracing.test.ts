import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { childOf, continueTrace, formatTraceparent, newTrace, parseTraceparent } from './tracing.ts';

const GOOD = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

describe('traceparent', () => {
  it('is read and written as the W3C says', () => {
    const context = parseTraceparent(GOOD);
    expect(context).toEqual({ traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true });
    expect(context && formatTraceparent(context)).toBe(GOOD);
  });

  it('of a later version is read by its first four parts', () => {
    expect(parseTraceparent(`cc${GOOD.slice(2)}-what-the-future-brings`)?.spanId).toBe('b7ad6b7169203331');
  });

  it.each([
    undefined,
    '',
    GOOD.toUpperCase(),
    `ff${GOOD.slice(2)}`,
    `${GOOD}-more`,
    `cc${GOOD.slice(2)}.more`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`,
    GOOD.slice(0, -1),
    ` ${GOOD}`,
    `cc${GOOD.slice(2)}-${'x'.repeat(1000)}`,
  ])('that is malformed (%s) starts a new trace', (header) => {
    expect(parseTraceparent(header)).toBeUndefined();
    const started = parseTraceparent(continueTrace(header));
    expect(started?.sampled).toBe(true);
    expect(started?.traceId).not.toBe('0af7651916cd43dd8448eb211c80319c');
  });

  it('of a child keeps the trace and the sampling, with a span of its own', () => {
    fc.assert(
      fc.property(fc.boolean(), (sampled) => {
        const parent = { ...newTrace(), sampled };
        const child = parseTraceparent(continueTrace(formatTraceparent(parent)));
        expect(child).toMatchObject({ traceId: parent.traceId, sampled });
        expect(child?.spanId).not.toBe(parent.spanId);
      }),
    );
  });

  it('survives writing and reading', () => {
    fc.assert(
      fc.property(fc.boolean(), (sampled) => {
        const context = { ...childOf(newTrace()), sampled };
        expect(parseTraceparent(formatTraceparent(context))).toEqual(context);
      }),
    );
  });

  it('is well-formed after any header', () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        expect(parseTraceparent(continueTrace(header))).toBeDefined();
      }),
    );
  });

  it('never has an id of zeros', () => {
    const answers = ['0'.repeat(32), 'a'.repeat(32), '0'.repeat(16), 'b'.repeat(16)];
    expect(newTrace(() => answers.shift() ?? '')).toEqual({
      traceId: 'a'.repeat(32),
      spanId: 'b'.repeat(16),
      sampled: true,
    });
  });
});
