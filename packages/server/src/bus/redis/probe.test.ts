import { describe, expect, it, vi } from 'vitest';
import { createProbe, type Probe } from './probe.ts';

const TIMES = { everyMs: 2000, deafMs: 5000, unhealthyMs: 10_000 };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A bus of which every link can be cut; the clock is the test's. */
function bench(topics = ['a', 'b']) {
  let time = 1_000_000;
  const state = { away: false, deaf: new Set<string>(), late: [] as (() => void)[], hold: false };
  const remade = vi.fn((_deaf: readonly string[]) => undefined);
  const travel = vi.fn();
  const sent: [string, string][] = [];
  const probe: Probe = createProbe({
    clock: { now: () => time, monotonic: () => time },
    times: TIMES,
    topics: () => topics,
    send: async (topic, payload) => {
      sent.push([topic, payload]);
      if (state.away) throw new Error('away');
      const back = (): void => probe.heard(topic, payload);
      if (state.deaf.has(topic)) return;
      if (state.hold) state.late.push(back);
      else back();
    },
    remake: remade,
    onTravel: travel,
  });
  const round = async (ms = 2000): Promise<void> => {
    time += ms;
    probe.round();
    await turn();
  };
  const rounds = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) await round();
  };
  return { probe, state, remade, travel, sent, round, rounds, topics, pass: (ms: number) => (time += ms) };
}

describe('the probe of a bus', () => {
  it('travels on every topic, each time it is due', async () => {
    const { sent, round, rounds } = bench();
    await round();
    expect(sent.map(([topic]) => topic)).toEqual(['a', 'b']);
    await rounds(2);
    expect(new Set(sent.map(([, payload]) => payload)).size).toBe(6);
  });

  it('makes the bus healthy only when the first one came back, and keeps it so', async () => {
    const { probe, state, round, rounds } = bench();
    expect(probe.healthy()).toBe(false);
    state.away = true;
    await rounds(3);
    expect(probe.healthy()).toBe(false);
    state.away = false;
    await round();
    expect(probe.healthy()).toBe(true);
    await rounds(20);
    expect(probe.healthy()).toBe(true);
  });

  it('finds one deaf topic among others within 10 s, and only then has the connection made anew', async () => {
    const { state, remade, rounds } = bench();
    await rounds(3);
    state.deaf.add('b');
    await rounds(3);
    expect(remade).not.toHaveBeenCalled();
    await rounds(1);
    expect(remade.mock.calls).toEqual([[['b']]]);
    state.deaf.clear();
    await rounds(10);
    expect(remade).toHaveBeenCalledTimes(1);
  });

  it('calls the bus unhealthy while one topic is unheard for 10 s', async () => {
    const { probe, state, round, rounds } = bench();
    await rounds(3);
    state.deaf.add('b');
    await rounds(4);
    expect(probe.healthy()).toBe(true);
    await round();
    expect(probe.healthy()).toBe(false);
    state.deaf.clear();
    await round();
    expect(probe.healthy()).toBe(true);
  });

  it('has a connection that stays deaf made anew less and less often', async () => {
    const { state, remade, rounds } = bench();
    await rounds(2);
    state.deaf.add('a');
    await rounds(30);
    const inAMinute = remade.mock.calls.length;
    expect(inAMinute).toBeGreaterThanOrEqual(3);
    await rounds(300);
    expect(remade.mock.calls.length - inAMinute).toBeLessThanOrEqual(10 * inAMinute);
    expect(remade.mock.calls.length - inAMinute).toBeLessThan(30);
  });

  it('blames no subscription while Redis does not take probes', async () => {
    const { probe, state, remade, rounds } = bench();
    await rounds(2);
    state.away = true;
    await rounds(20);
    expect(remade).not.toHaveBeenCalled();
    expect(probe.healthy()).toBe(false);
  });

  it('blames no subscription for the time in which this process itself stood still', async () => {
    const { state, remade, round, rounds } = bench();
    await rounds(2);
    state.hold = true;
    await round();
    await round(20_000);
    expect(remade).not.toHaveBeenCalled();
    for (const back of state.late.splice(0)) back();
    state.hold = false;
    await rounds(5);
    expect(remade).not.toHaveBeenCalled();
  });

  it('takes a probe that comes back after a later one, or twice, for nothing', async () => {
    const { probe, sent, travel, rounds } = bench(['a']);
    await rounds(3);
    expect(travel).toHaveBeenCalledTimes(3);
    for (const [topic, payload] of sent) probe.heard(topic, payload);
    probe.heard('a', 'junk');
    probe.heard('other', '1');
    expect(travel).toHaveBeenCalledTimes(3);
  });

  it('tells how old the last probe is that came back, where it is oldest', async () => {
    const { probe, state, pass, round, rounds } = bench();
    pass(700);
    expect(probe.lagMs()).toBe(700);
    await rounds(2);
    pass(300);
    expect(probe.lagMs()).toBe(300);
    state.deaf.add('b');
    await round(1700);
    expect(probe.lagMs()).toBe(2000);
  });

  it('forgets a topic that is subscribed no more, and gives a new one its time', async () => {
    const { probe, state, topics, rounds } = bench();
    await rounds(2);
    state.deaf.add('b').add('c');
    topics.splice(1, 1, 'c');
    await rounds(5);
    expect(probe.healthy()).toBe(true);
    await rounds(1);
    expect(probe.healthy()).toBe(false);
    topics.pop();
    await rounds(1);
    expect(probe.healthy()).toBe(true);
  });

  it('sends by itself from the start on, and nothing after its end', async () => {
    const send = vi.fn(async () => undefined);
    const clock = { now: () => Date.now(), monotonic: () => performance.now() };
    const probe = createProbe({
      clock,
      times: { everyMs: 8, deafMs: 5000, unhealthyMs: 10_000 },
      topics: () => ['a'],
      send,
      remake: () => undefined,
      onTravel: () => undefined,
    });
    probe.start();
    expect(send).toHaveBeenCalledTimes(1);
    await vi.waitFor(() => expect(send.mock.calls.length).toBeGreaterThan(3));
    probe.stop();
    const calls = send.mock.calls.length;
    probe.noteTopic('b');
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(send).toHaveBeenCalledTimes(calls);
  });
});
