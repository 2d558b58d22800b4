import { describe, expect, it } from 'vitest';
import type { Entry } from './entry.ts';
import { createFanout } from './fanout.ts';
import { textFrame } from './frame.ts';
import { Viewer } from './viewer.ts';
import { createScriptedSink, type ScriptedSink } from './scripted-sink.suite.ts';

const LIMITS = { socketBytes: 65_536, messages: 100_000, bytes: 100_000_000 };
const ALL = { zone: null, minSeverity: null };
const entry = (offset: number): Entry => ({
  offset,
  at: 0,
  zoneId: null,
  severity: 2,
  frame: textFrame(`{"type":"alert","offset":${offset}}`),
});
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function liveViewer(): { viewer: Viewer; sink: ScriptedSink } {
  const sink = createScriptedSink();
  const home = { close: () => undefined, received: () => undefined };
  const viewer = new Viewer(home, sink, LIMITS, ALL, 0, 0);
  viewer.step('caught-up');
  return { viewer, sink };
}

describe('the fan-out', () => {
  it('is settled once what was pushed until then was handed out, though more is pushed all the time', async () => {
    // A clock that jumps: each look at it ends the slice, so that every batch lets the event loop turn.
    let now = 0;
    const clock = { now: () => now, monotonic: () => (now += 10) };
    const fanout = createFanout({ clock });
    const viewers = Array.from({ length: 64 }, liveViewer);
    for (const { viewer } of viewers) fanout.add(viewer);
    fanout.push(entry(1));
    let settled = false;
    void fanout.settled().then(() => {
      settled = true;
    });
    let offset = 1;
    for (let turns = 0; turns < 50 && !settled; turns += 1) {
      fanout.push(entry((offset += 1)));
      await turn();
    }
    expect(settled).toBe(true);
    expect(viewers.every(({ sink }) => sink.messages().some((message) => message.offset === 1))).toBe(true);
    fanout.clear();
  });

  it('is settled at once with nothing to do, and when it forgets what was to do', async () => {
    const fanout = createFanout({ clock: { now: () => 0, monotonic: () => 0 } });
    await fanout.settled();
    const { viewer } = liveViewer();
    fanout.add(viewer);
    fanout.push(entry(1));
    const settled = fanout.settled();
    fanout.clear();
    await settled;
    expect(fanout.backlog).toBe(0);
  });
});
