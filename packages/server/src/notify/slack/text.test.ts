import { describe, expect, it } from 'vitest';
import { alertOf, AT, busyHost, idOf, noticeFor } from '../notices.suite.ts';
import { SUMMARY_POSTS_MOST, summaryTexts } from './summary.ts';
import { joined, lineOf, TEXT_CHARACTERS } from './text.ts';

const LINK = 'https://tocsin.example.org/v1/alerts/';

describe('the line of an alert in Slack', () => {
  it('is the contract’s for a busy host, to the letter', () => {
    expect(lineOf(noticeFor(busyHost('web-1')), LINK)).toBe(
      ':rotating_light: CPU ALERT at web-1 \u2014 CPU 95.0%, RAM 41.5%',
    );
    const evidence = { cpu_percent: 99.96, mem_percent: 40 };
    expect(lineOf(noticeFor(busyHost('a_b.c', { evidence })), null)).toBe(
      ':rotating_light: CPU ALERT at a_b.c \u2014 CPU 100.0%, RAM 40%',
    );
  });

  it('says what, where and when, and leads there', () => {
    expect(lineOf(noticeFor(alertOf({ deviceId: 's1' })), LINK)).toBe(
      `:rotating_light: *SEVERE* Earthquake near Foligno \u2014 zone umbria \u2014 device s1 \u2014 2026-11-28 19:30:00 UTC \u2014 <${LINK}${idOf(1)}|${idOf(1)}>`,
    );
  });

  it('says that an alert became worse, is over, or is an exercise', () => {
    const alert = alertOf({ zoneId: null, updatedAt: AT + 61_000 });
    expect(lineOf(noticeFor({ ...alert, severity: 'extreme' }, 'updated'), null)).toBe(
      ':rotating_light: *NOW EXTREME* Earthquake near Foligno \u2014 2026-11-28 19:31:01 UTC',
    );
    expect(lineOf(noticeFor({ ...alert, state: 'resolved' }, 'resolved'), null)).toBe(
      ':white_check_mark: *RESOLVED* Earthquake near Foligno \u2014 2026-11-28 19:31:01 UTC',
    );
    expect(lineOf(noticeFor(busyHost('sim-1', { status: 'exercise' })), null)).toMatch(
      /^EXERCISE: :rotating_light: CPU ALERT at sim-1/,
    );
  });

  it('holds outside text in one line that can do nothing', () => {
    const headline = '<!channel>\n:rotating_light: CPU ALERT at bank \u2014 `x`';
    const line = lineOf(noticeFor(alertOf({ headline })), null);
    expect(line).toContain('&lt;!channel&gt; :rotating_light:');
    expect(line).not.toContain('\n');
  });
});

describe('posts to Slack', () => {
  const notices = (count: number, headline = 'x'): ReturnType<typeof noticeFor>[] =>
    Array.from({ length: count }, (_, n) => noticeFor(alertOf({ id: idOf(n), headline })));

  it('are one for each alert while few wait, and joined when many do', () => {
    expect(joined(notices(10), LINK)).toBe(1);
    expect(joined(notices(11), LINK)).toBe(11);
    expect(joined(notices(500), LINK)).toBe(100);
  });

  it('stay below what Slack takes', () => {
    const long = notices(300, '&'.repeat(200));
    const count = joined(long, LINK);
    const text = long
      .slice(0, count)
      .map((notice) => lineOf(notice, LINK))
      .join('\n');
    expect(count).toBeGreaterThan(1);
    expect(text.length).toBeLessThanOrEqual(TEXT_CHARACTERS);
  });
});

describe('the summary of hosts', () => {
  const frame = (
    device_id: string,
    gpu_percent: number | null = null,
  ): Parameters<typeof summaryTexts>[0] extends Iterable<infer Frame> ? Frame : never => ({
    ...{ device_id, timestamp: 1, cpu_percent: 12.25, mem_percent: 40, disk_percent: 7.1 },
    ...{ gpu_percent, agent_cpu_percent: null, agent_mem_mb: null },
  });

  it('is the contract’s, to the letter: sorted, padded, numbers as reported', () => {
    expect(summaryTexts([frame('web-2', 33.3), frame('web-10'), frame('a-name-longer-than-fifteen')])).toEqual([
      [
        '```',
        'Metrics summary (last interval):',
        '',
        'a-name-longer-than-fifteen | CPU 12.25% | RAM 40% | Disk 7.1% | GPU n/a',
        'web-10          | CPU 12.25% | RAM 40% | Disk 7.1% | GPU n/a',
        'web-2           | CPU 12.25% | RAM 40% | Disk 7.1% | GPU 33.3%',
        '```',
      ].join('\n'),
    ]);
  });

  it('is none without a device', () => {
    expect(summaryTexts([])).toEqual([]);
  });

  it('is split into posts that Slack takes, each a block of its own', () => {
    const texts = summaryTexts(Array.from({ length: 2000 }, (_, n) => frame(`host-${n}`)));
    expect(texts.length).toBeGreaterThan(2);
    for (const text of texts) {
      expect(text.length).toBeLessThan(40_000);
      expect(text).toMatch(/^```\nMetrics summary \(last interval\):\n\n[^`]+\n```$/);
    }
    expect(texts.join('\n').match(/^host-/gm)).toHaveLength(2000);
  });

  it('is bounded, and says how many hosts it left out', () => {
    const texts = summaryTexts(Array.from({ length: 30_000 }, (_, n) => frame(`host-${n}`)));
    expect(texts).toHaveLength(SUMMARY_POSTS_MOST);
    const shown = texts.join('\n').match(/^host-/gm)?.length ?? 0;
    expect(texts.at(-1)).toMatch(new RegExp(`\n… and ${30_000 - shown} more\n\`\`\`$`));
    expect(texts.every((text) => text.length < 40_000)).toBe(true);
  });
});
