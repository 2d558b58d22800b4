/**
 * An alert as a CloudEvent (CloudEvents 1.0.2, JSON format, structured mode). Pure.
 *
 * `data` is the alert byte for byte as the channel has it, so that its signature stays verifiable.
 */
import type { Notice } from '../notifier.ts';

/** The media type of the body. */
export const EVENT_MEDIA_TYPE = 'application/cloudevents+json; charset=utf-8';

/** The body. `source` is how the outside calls us. */
export function eventOf(
  { key, event, alert, body }: Pick<Notice, 'key' | 'event' | 'alert' | 'body'>,
  source: string,
): string {
  const attributes = {
    specversion: '1.0',
    id: key,
    source,
    type: `tocsin.alert.${event}`,
    subject: alert.id,
    time: new Date(alert.updatedAt).toISOString(),
    datacontenttype: 'application/json',
  };
  return `${JSON.stringify(attributes).slice(0, -1)},"data":${body}}`;
}
