/**
 * The summary of hosts that Slack gets every SUMMARY_INTERVAL, as the contract has it (`wire.md` section 4). Pure.
 */
import type { HostFrame } from '@tocsin/protocol/frame';
import { escapeMrkdwn } from './mrkdwn.ts';
import { TEXT_CHARACTERS } from './text.ts';

const ID_WIDTH = 15;
/** An identifier has at most so many. */
const ID_CHARACTERS = 64;
/** Posts of one summary: Slack takes about one a second, and alerts go between them. Some 10,000 hosts. */
export const SUMMARY_POSTS_MOST = 20;
const HEAD = 'Metrics summary (last interval):\n\n';
const FENCE = '```';

/**
 * The posts of a summary, one unless it would be longer than Slack takes; none when there is no device. Devices by id, numbers as
 * they were reported. Of more than {@link SUMMARY_POSTS_MOST} posts the rest is left out, and said to be.
 */
export function summaryTexts(frames: Iterable<HostFrame>): string[] {
  const sorted = [...frames].sort((a, b) => (a.device_id < b.device_id ? -1 : a.device_id > b.device_id ? 1 : 0));
  const texts: string[] = [];
  let lines: string[] = [];
  let characters = 0;
  const flush = (): void => {
    if (lines.length > 0) texts.push(`${FENCE}\n${HEAD}${lines.join('\n')}\n${FENCE}`);
    lines = [];
    characters = 0;
  };
  for (const line of sorted.map(lineOf)) {
    if (characters + line.length + 1 > TEXT_CHARACTERS) flush();
    lines.push(line);
    characters += line.length + 1;
  }
  flush();
  if (texts.length <= SUMMARY_POSTS_MOST) return texts;
  const shown = texts.slice(0, SUMMARY_POSTS_MOST);
  const hosts = shown.join('\n').match(/ \| CPU /g)?.length ?? 0;
  const last = shown[SUMMARY_POSTS_MOST - 1] ?? '';
  const more = `… and ${sorted.length - hosts} more`;
  return [...shown.slice(0, -1), `${last.slice(0, -FENCE.length)}${more}\n${FENCE}`];
}

function lineOf({ device_id, cpu_percent, mem_percent, disk_percent, gpu_percent }: HostFrame): string {
  const id = escapeMrkdwn(device_id, ID_CHARACTERS).padEnd(ID_WIDTH);
  const gpu = gpu_percent === null ? 'n/a' : `${gpu_percent}%`;
  return `${id} | CPU ${cpu_percent}% | RAM ${mem_percent}% | Disk ${disk_percent}% | GPU ${gpu}`;
}
