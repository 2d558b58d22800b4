import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Finding } from './detector.ts';
import { GROUP_FROM, silentHostsDetector, type SilentHostsState } from './silent-hosts.ts';
import { SILENCE_KEY, type SilenceNotice } from './silence.ts';

const NOW = 1_795_176_000_000;
const SECOND = 1000;
const detector = silentHostsDetector();

/** The detector with its ticks; times in seconds after NOW. */
function installation() {
  let state: SilentHostsState | null = null;
  const findings: Finding[] = [];
  const take = (step: { state: SilentHostsState | null; findings: readonly Finding[] }): void => {
    state = JSON.parse(JSON.stringify(step.state)) as SilentHostsState | null;
    findings.push(...step.findings);
  };
  const tell = (kind: SilenceNotice['kind'], deviceId: string, since: number, at: number): void => {
    const notice = { kind, deviceId, since: NOW + since * SECOND, at: NOW + at * SECOND };
    take(detector.step(state, SILENCE_KEY, notice, notice.at));
  };
  return {
    findings,
    state: () => state,
    silent: (deviceId: string, since: number, at: number) => tell('silent', deviceId, since, at),
    back: (deviceId: string, since: number, at: number) => tell('back', deviceId, since, at),
    gone: (deviceId: string, since: number, at: number) => tell('gone', deviceId, since, at),
    tick(at: number): void {
      if (state !== null) take(detector.tick(state, SILENCE_KEY, NOW + at * SECOND));
    },
    headlines: () => findings.map(({ headline, ends, deviceId }) => (ends === true ? `end ${deviceId}` : headline)),
  };
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `h${i}`);

describe('hosts that fall silent', () => {
  test('few are told one by one at the next tick, each under its own key, and end when they are heard', () => {
    const all = installation();
    all.silent('a', 0, 40);
    all.silent('b', 3, 40);
    all.tick(40);
    expect(all.findings).toEqual([]);
    all.tick(50);
    expect(all.findings).toMatchObject([
      { kind: 'host.silent', severity: 'moderate', deviceId: 'a', subject: 'device:a', onset: NOW },
      { deviceId: 'b', onset: NOW + 3 * SECOND, evidence: { lastHeard: NOW + 3 * SECOND } },
    ]);
    all.back('a', 0, 3661);
    expect(all.findings.at(-1)).toMatchObject({
      ...{ ends: true, deviceId: 'a', subject: 'device:a', onset: NOW },
      ...{ description: 'Heard again after 1 h 1 min.', evidence: { ended: { reason: 'heard', silentSeconds: 3661 } } },
    });
    all.gone('b', 3, 7 * 86_400);
    expect(all.findings.at(-1)).toMatchObject({
      ends: true,
      deviceId: 'b',
      evidence: { ended: { reason: 'given-up' } },
    });
    expect(all.state()).toBeNull();
  });

  test('one that is heard before it was told is not told of', () => {
    const all = installation();
    all.silent('a', 0, 40);
    all.back('a', 0, 45);
    all.tick(50);
    expect(all.findings).toEqual([]);
    expect(all.state()).toBeNull();
  });

  test('one whose end overtook it is not told of, and an end that belongs to none is forgotten', () => {
    const all = installation();
    all.back('a', 0, 38);
    all.silent('a', 0, 40);
    expect(all.state()).toBeNull();
    all.back('a', 7, 50);
    all.silent('a', 60, 100);
    all.tick(110);
    expect(all.headlines()).toEqual(['a is silent']);
    all.back('a', 60, 115);
    expect(all.state()).toBeNull();
  });

  test('a thousand at once are one alert, which ends with the last that is heard again', () => {
    const all = installation();
    for (const [i, name] of names(1000).entries()) all.silent(name, i % 15, 40 + 10 * (i % 2));
    all.tick(50);
    all.tick(60);
    all.tick(70);
    expect(all.headlines()).toEqual(['Silent hosts: {silent}']);
    expect(all.findings[0]).toMatchObject({
      severity: 'severe',
      deviceId: null,
      evidence: { hosts: 1000, silent: 1000 },
    });
    for (const name of names(999)) all.back(name, 0, 600);
    all.tick(600);
    all.tick(605);
    expect(all.headlines()).toEqual(['Silent hosts: {silent}', 'Silent hosts: {silent} of {hosts}']);
    all.back('h999', 0, 700);
    expect(all.findings.at(-1)).toMatchObject({ ends: true, deviceId: null, onset: all.findings[0]?.onset });
    expect(all.state()).toBeNull();
  });

  test('those that dribble in join it, told again by half and else once a minute', () => {
    const all = installation();
    for (const [i, name] of names(300).entries()) {
      all.silent(name, i, i + 40);
      if (i % 10 === 9) all.tick(i + 50);
    }
    all.tick(500);
    const singles = all.findings.filter(({ deviceId }) => deviceId !== null);
    const groups = all.findings.filter(({ deviceId }) => deviceId === null);
    expect(singles.length).toBeLessThan(GROUP_FROM);
    expect(new Set(groups.map(({ onset }) => onset)).size).toBe(1);
    expect(groups.length).toBeLessThanOrEqual(14);
    expect(groups.at(-1)?.evidence).toMatchObject({ hosts: 300 - singles.length, silent: 300 - singles.length });
  });

  test('another such event an hour later is another alert, while the first is still open', () => {
    const all = installation();
    for (const name of names(20)) all.silent(name, 0, 40);
    all.tick(50);
    for (const name of names(20)) all.silent(`late-${name}`, 3600, 3640);
    all.tick(3650);
    expect(all.findings.map(({ onset }) => (onset - NOW) / SECOND)).toEqual([0, 3600]);
  });

  test('in whatever order they are told, the same is found', () => {
    const drawn = fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 200 })), {
      selector: ([host]) => host,
      maxLength: 40,
    });
    fc.assert(
      fc.property(
        drawn.chain((hosts) => fc.tuple(fc.constant(hosts), fc.shuffledSubarray(hosts, { minLength: hosts.length }))),
        ([one, other]) => {
          const [a, b] = [one, other].map((hosts) => {
            const all = installation();
            for (const [host, since] of hosts) all.silent(`h${host}`, since, 300);
            all.tick(310);
            return [all.findings, all.state()];
          });
          expect(a).toEqual(b);
        },
      ),
    );
  });

  test('every one that is told ends when all are heard, and nothing is left', () => {
    const drawn = fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 400 })), {
      selector: ([host]) => host,
      maxLength: 60,
    });
    fc.assert(
      fc.property(drawn, fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }), (hosts, ticks) => {
        const all = installation();
        const sorted = hosts.toSorted((a, b) => a[1] - b[1]);
        for (const [i, [host, since]] of sorted.entries()) {
          all.silent(`h${host}`, since, since + 50);
          if (ticks[i % ticks.length] === true) all.tick(since + 60);
        }
        all.tick(1000);
        for (const [host, since] of sorted) all.back(`h${host}`, since, 2000);
        const name = ({ deviceId, onset }: Finding): string => `${deviceId} ${onset}`;
        const begun = new Set(all.findings.filter(({ ends }) => ends !== true).map(name));
        const ended = all.findings.filter(({ ends }) => ends === true).map(name);
        expect(ended.sort()).toEqual([...begun].sort());
        expect(all.state()).toBeNull();
      }),
    );
  });
});
