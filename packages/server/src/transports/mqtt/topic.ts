/**
 * Topic filters (MQTT 5, section 4.7), and the level of a topic that names the device. Pure.
 *
 * The device is the level that the last `+` of the filter stands for; in a filter without one, the first level that `#`
 * stands for. So `devices/+/metrics`, `site/+/+/metrics` (site, device) and `fleet/#` say where it is; a filter without
 * wildcards says nothing, and is for nobody.
 */

/** A filter that says where the device is. */
export interface DeviceTopic {
  readonly text: string;
  /** The level that names the device, whatever it is; null when the topic does not fit. */
  deviceOf(topic: string): string | null;
}

/** What is wrong with a filter, in words that follow its name; null: it says where the device is. */
export function topicMistake(filter: string): string | null {
  if (filter.startsWith('$')) return 'must not begin with $ (a shared subscription is made of it where one is needed)';
  return deviceLevel(filter.split('/')) === null
    ? 'must have a level + (or # at its end) that stands for the device'
    : null;
}

/**
 * Reads a filter.
 * @throws RangeError when {@link topicMistake} has something to say.
 */
export function deviceTopic(filter: string): DeviceTopic {
  const levels = filter.split('/');
  const level = deviceLevel(levels);
  if (level === null || topicMistake(filter) !== null) throw new RangeError('no filter of a device’s topic');
  return {
    text: filter,
    deviceOf: (topic) => {
      const parts = topic.split('/');
      return fits(levels, parts) ? (parts[level] ?? '') : null;
    },
  };
}

/** Whether there are topics that fit both filters. */
export function overlap(one: string, other: string): boolean {
  return meet(one.split('/'), other.split('/'));
}

function deviceLevel(levels: readonly string[]): number | null {
  const last = levels.lastIndexOf('+');
  if (last >= 0) return last;
  return levels.at(-1) === '#' ? levels.length - 1 : null;
}

function fits(filter: readonly string[], topic: readonly string[]): boolean {
  // Section 4.7.2: what a server tells of itself is not for those who ask for everything.
  if (topic[0]?.startsWith('$') === true) return false;
  const any = filter.at(-1) === '#';
  const fixed = any ? filter.slice(0, -1) : filter;
  if (any ? topic.length < fixed.length : topic.length !== fixed.length) return false;
  return fixed.every((level, index) => level === '+' || level === topic[index]);
}

function meet([one, ...ones]: readonly string[], [other, ...others]: readonly string[]): boolean {
  if (one === '#' || other === '#') return true;
  if (one === undefined || other === undefined) return one === other;
  return (one === '+' || other === '+' || one === other) && meet(ones, others);
}

/** The rule that a topic breaks which fits neither filter, for the log. */
export function fitsNeither(frameTopic: string, envelopeTopic: string): string {
  return `The topic fits neither MQTT_TOPIC (${frameTopic}) nor MQTT_READINGS_TOPIC (${envelopeTopic})`;
}
