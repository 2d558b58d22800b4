/** Alerts and notices for tests of notifications. */
import type { Alert } from '@tocsin/protocol/alert';
import { severityRank } from '@tocsin/protocol/alert';
import type { ChannelMessage } from '../store/ports/channels.ts';
import type { Notice } from './notifier.ts';

/** A time of these alerts, Unix ms. */
export const AT: number = Date.UTC(2026, 10, 28, 19, 30, 0);

/** The `n`-th id. */
export function idOf(n: number): string {
  return `01M7WD7W4NMY3T3SB9${String(n).padStart(8, '0')}`;
}

/** An alert of a drill; `more` says what else. */
export function alertOf(more: Partial<Alert> = {}): Alert {
  return {
    id: idOf(1),
    kind: 'seismic.event',
    severity: 'severe',
    status: 'actual',
    state: 'open',
    revision: 1,
    offset: 1,
    headline: 'Earthquake near Foligno',
    description: 'Magnitude 5.1',
    zoneId: 'umbria',
    deviceId: null,
    latitude: null,
    longitude: null,
    onset: AT,
    sentAt: AT,
    updatedAt: AT,
    fingerprint: 'f'.repeat(64),
    evidence: {},
    signature: 'a..b',
    ...more,
  };
}

/** A busy host. */
export function busyHost(id: string, more: Partial<Alert> = {}): Alert {
  return alertOf({
    kind: 'host.cpu',
    severity: 'moderate',
    deviceId: id,
    zoneId: null,
    evidence: { cpu_percent: 95, mem_percent: 41.5, disk_percent: 12, threshold: 90 },
    ...more,
  });
}

/** The channel's message of an alert. */
export function messageOf(alert: Alert): ChannelMessage {
  return {
    channel: 'alerts',
    offset: alert.offset,
    type: alert.revision === 1 ? 'alert' : 'alert-update',
    zoneId: alert.zoneId,
    severity: severityRank(alert.severity),
    createdAt: alert.updatedAt,
    body: JSON.stringify(alert),
  };
}

/** The notice of an alert. */
export function noticeFor(alert: Alert, event: Notice['event'] = 'raised'): Notice {
  return { key: `${alert.id}.${alert.revision}`, offset: alert.offset, event, alert, body: JSON.stringify(alert) };
}
