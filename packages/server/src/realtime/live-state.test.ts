import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { LiveDevice } from './live-board.ts';
import { device } from './live-device.suite.ts';
import { createLiveState, frameText, isNewer, type LiveState } from './live-state.ts';

const WINDOW = 30_000;

function open(most = 1000): { state: LiveState; at: { now: number }; onFull: ReturnType<typeof vi.fn> } {
  const at = { now: 1_000_000 };
  const onFull = vi.fn();
  const state = createLiveState({ clock: { now: () => at.now }, windowMs: WINDOW, most, onFull });
  return { state, at, onFull };
}

describe('the live state', () => {
  it('holds a device from its arrival on for exactly the window, whoever looks', () => {
    const { state, at } = open();
    const gone: string[] = [];
    state.watch({ changed: () => undefined, gone: (id) => gone.push(id) });
    state.offer(device('a', at.now));
    at.now += WINDOW - 1;
    expect([state.has('a'), state.size(), [...state.active().keys()]]).toEqual([true, 1, ['a']]);
    at.now += 1;
    expect([state.has('a'), state.size(), [...state.active().keys()], gone]).toEqual([false, 0, [], ['a']]);
    expect(state.offer(device('a', at.now - WINDOW))).toBe(false);
  });

  it('shows the frame that arrived last; at one time the newer timestamp, then the greater text', () => {
    const { state, at } = open();
    const now = at.now;
    expect(state.offer(device('a', now, 1))).toBe(true);
    expect(state.offer(device('a', now - 1, 2, 9_999_999))).toBe(false);
    expect(state.offer(device('a', now, 3, 5))).toBe(false);
    expect(state.offer(device('a', now, 4, 9_999_999))).toBe(true);
    expect(state.offer(device('a', now, 4, 9_999_999))).toBe(false);
    expect([
      isNewer(device('a', now, 5), device('a', now, 4)),
      isNewer(device('a', now, 4), device('a', now, 5)),
    ]).toEqual([true, false]);
  });

  it('leaves newcomers out beyond its bound, and says so; who is in goes on', () => {
    const { state, at, onFull } = open(2);
    for (const id of ['a', 'b', 'c']) state.offer(device(id, at.now));
    expect([state.size(), state.has('c'), onFull.mock.calls.length]).toEqual([2, false, 1]);
    at.now += 1;
    expect(state.offer(device('a', at.now, 7))).toBe(true);
    at.now += WINDOW - 1;
    expect(state.offer(device('c', at.now))).toBe(true);
  });

  it('lets go in time of what came before the clock was set back, and shows what comes after', () => {
    const { state, at } = open();
    state.offer(device('a', at.now, 1));
    state.offer(device('b', at.now, 1));
    at.now -= 3_600_000;
    expect(state.size()).toBe(2);
    at.now += 10;
    expect(state.offer(device('a', at.now, 2))).toBe(true);
    at.now += WINDOW - 10;
    expect([...state.active().keys()]).toEqual(['a']);
  });

  it('is the same, whatever the order of the same frames, and equals a plain model of them', () => {
    const frames = fc.array(
      fc.record({
        id: fc.constantFrom('a', 'b', 'c', 'd'),
        ago: fc.integer({ min: 0, max: 40_000 }),
        cpu: fc.integer({ min: 0, max: 3 }),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(frames, fc.integer({ min: 0, max: 40_000 }), fc.infiniteStream(fc.nat()), (list, passes, order) => {
        const one = open();
        const other = open();
        const devices = list.map(({ id, ago, cpu }) => device(id, one.at.now - ago, cpu, cpu));
        for (const each of devices) one.state.offer(each);
        const shuffled = devices.map((each) => [order.next().value ?? 0, each] as const).toSorted(([a], [b]) => a - b);
        for (const [, each] of shuffled) other.state.offer(each);
        one.at.now += passes;
        other.at.now += passes;
        const model = new Map<string, LiveDevice>();
        for (const each of devices) {
          const held = model.get(each.frame.device_id);
          if (held === undefined || isNewer(each, held)) model.set(each.frame.device_id, each);
        }
        for (const [id, { heardAt }] of model) if (heardAt + WINDOW <= one.at.now) model.delete(id);
        const shown = (state: LiveState): unknown =>
          new Map([...state.active()].map(([id, { frame, heardAt }]) => [id, `${heardAt} ${frameText(frame)}`]));
        const expected = new Map([...model].map(([id, { frame, heardAt }]) => [id, `${heardAt} ${frameText(frame)}`]));
        expect(shown(one.state)).toEqual(expected);
        expect(shown(other.state)).toEqual(expected);
        expect(one.state.size()).toBe(model.size);
      }),
    );
  });

  it('writes a frame with the members of the contract in one order, whoever made it', () => {
    const { frame } = device('a', 5000);
    const turned = Object.fromEntries(Object.entries(frame).toReversed()) as unknown as typeof frame;
    expect(frameText(turned)).toBe(frameText(frame));
    expect(Object.keys(JSON.parse(frameText(frame)) as object)).toHaveLength(8);
  });
});
