/**
 * An alert as a message of the Common Alerting Protocol 1.2 (OASIS Standard, 1 July 2010; ITU-T X.1303 bis). Pure.
 *
 * Every revision is a CAP message of its own, `<alert id>.<revision>`: the first `Alert`, further ones `Update`, the one
 * that resolves `Cancel`, the last two with references to the earlier ones. Seismic alerts are `Public`; what speaks of
 * single machines, phones or this installation is `Restricted`, and so are exercises. There is no `expires`: an alert
 * ends by its `Cancel`.
 * Guarantees: the order of elements and the values of the schema; times without `Z` or fractions, UTC as `-00:00`
 * (section 3.3.2); identifiers without spaces, commas, `<` and `&`; no character that XML 1.0 forbids.
 */
import type { Alert, AlertKind, AlertState, Severity } from '@tocsin/protocol/alert';
import type { AlertRecord } from '../store/ports/alerts.ts';
import { cleanText } from './text.ts';

/** What a CAP message says besides its alert. */
export interface CapContext {
  /** What the outside calls us; its host is the sender. */
  readonly publicUrl: string;
  /** The name of the alert's zone, null when there is none or nobody knows it. */
  readonly zoneName: string | null;
}

interface CapKind {
  readonly category: string;
  readonly event: string;
  readonly responseType: string;
  readonly urgency: string;
  readonly certainty: string;
  readonly scope: 'Public' | 'Restricted';
  /** Of the circle around a known place, km. */
  readonly radiusKm: number;
}

const MACHINE = {
  category: 'Infra',
  responseType: 'Assess',
  urgency: 'Expected',
  certainty: 'Observed',
  scope: 'Restricted',
  radiusKm: 0,
} as const;
// What a phone's sensors or an app list say is a judgement, not a sight.
const PHONE = {
  category: 'Security',
  responseType: 'Assess',
  urgency: 'Immediate',
  certainty: 'Likely',
  scope: 'Restricted',
  radiusKm: 0,
} as const;
// 50 km: where a moderate earthquake near the place may be felt strongly; its size is not known in the first seconds.
const SEISMIC = {
  category: 'Geo',
  responseType: 'Shelter',
  urgency: 'Immediate',
  certainty: 'Observed',
  scope: 'Public',
  radiusKm: 50,
} as const;

const KINDS: Readonly<Record<AlertKind, CapKind>> = {
  'seismic.swarm': { ...SEISMIC, event: 'Seismic alarm' },
  'seismic.event': { ...SEISMIC, event: 'Earthquake', certainty: 'Likely' },
  'host.cpu': { ...MACHINE, event: 'Processor overload' },
  'host.memory': { ...MACHINE, event: 'Memory exhaustion' },
  'host.disk': { ...MACHINE, event: 'Disk exhaustion' },
  'host.gpu': { ...MACHINE, event: 'Graphics processor overload' },
  'host.silent': { ...MACHINE, event: 'Host silent' },
  'mobile.trust': { ...PHONE, event: 'Loss of trust in a device' },
  'edr.risk': { ...PHONE, event: 'Endpoint risk' },
  'system.connection-spike': { ...MACHINE, category: 'Security', event: 'Connection spike' },
  'system.degraded': { ...MACHINE, event: 'Service degraded' },
  'operator.drill': {
    ...MACHINE,
    category: 'Other',
    responseType: 'None',
    urgency: 'Unknown',
    certainty: 'Unknown',
    event: 'Exercise',
  },
};

const SEVERITY: Readonly<Record<Severity, string>> = {
  extreme: 'Extreme',
  severe: 'Severe',
  moderate: 'Moderate',
  minor: 'Minor',
  unknown: 'Unknown',
};

const RESTRICTION = 'Operators and viewers of this installation';
/** The namespace of CAP 1.2. */
export const CAP_NAMESPACE = 'urn:oasis:names:tc:emergency:cap:1.2';

type Node = readonly [name: string, content: string | readonly Node[]];

/** The CAP message of the newest revision of an alert, as an XML document. */
export function toCap(record: AlertRecord, context: CapContext): string {
  const { alert } = record;
  const kind = KINDS[alert.kind];
  const restricted = kind.scope === 'Restricted' || alert.status === 'exercise';
  const references = referencesOf(record, context);
  const children: Node[] = [
    ['identifier', identifierOf(alert.id, alert.revision)],
    ['sender', senderOf(context)],
    ['sent', capTime(alert.updatedAt)],
    ['status', alert.status === 'exercise' ? 'Exercise' : 'Actual'],
    ['msgType', messageType(alert)],
    ['scope', restricted ? 'Restricted' : 'Public'],
  ];
  if (restricted) children.push(['restriction', RESTRICTION]);
  if (alert.status === 'exercise') children.push(['note', `Exercise ${alert.id}`]);
  if (references !== '') children.push(['references', references]);
  children.push(['info', infoOf(alert, kind, context)]);
  const body = children.map((child) => render(child, '  ')).join('');
  return `<?xml version="1.0" encoding="UTF-8"?>\n<alert xmlns="${CAP_NAMESPACE}">\n${body}</alert>\n`;
}

/** A time as CAP writes it: whole seconds, UTC as `-00:00`. */
export function capTime(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}-00:00`;
}

function messageType(alert: Alert): string {
  if (alert.revision === 1) return 'Alert';
  return alert.state === 'resolved' ? 'Cancel' : 'Update';
}

function identifierOf(id: string, revision: number): string {
  return `${id}.${revision}`;
}

function senderOf(context: CapContext): string {
  // A URL's host holds no white space, comma, `<` or `&`.
  return new URL(context.publicUrl).host;
}

/** `sender,identifier,sent` of the earlier revisions whose times are known, and always of the first. */
function referencesOf({ alert, revisedAt }: AlertRecord, context: CapContext): string {
  const sender = senderOf(context);
  const times = new Map(revisedAt.map((at, index) => [alert.revision - revisedAt.length + 1 + index, at]));
  times.set(1, alert.sentAt);
  const earlier = [...times].filter(([revision]) => revision < alert.revision).sort(([a], [b]) => a - b);
  return earlier.map(([revision, at]) => `${sender},${identifierOf(alert.id, revision)},${capTime(at)}`).join(' ');
}

const OVER: Readonly<Record<AlertState, boolean>> = { open: false, acknowledged: false, resolved: true };

function infoOf(alert: Alert, kind: CapKind, context: CapContext): Node[] {
  const over = OVER[alert.state];
  const info: Node[] = [
    ['language', 'en-US'],
    ['category', kind.category],
    ['event', kind.event],
    ['responseType', over ? 'AllClear' : kind.responseType],
    ['urgency', over ? 'Past' : kind.urgency],
    ['severity', SEVERITY[alert.severity]],
    ['certainty', kind.certainty],
    ['onset', capTime(alert.onset)],
    ['senderName', 'Tocsin'],
    ['headline', alert.headline],
  ];
  if (alert.description !== '') info.push(['description', alert.description]);
  info.push(['web', new URL(`/v1/alerts/${alert.id}`, context.publicUrl).href]);
  info.push(parameter('tocsin:kind', alert.kind), parameter('tocsin:state', alert.state));
  info.push(parameter('tocsin:offset', String(alert.offset)), parameter('tocsin:fingerprint', alert.fingerprint));
  info.push(['area', areaOf(alert, kind, context)]);
  return info;
}

function areaOf(alert: Alert, kind: CapKind, context: CapContext): Node[] {
  const { zoneId, deviceId, latitude, longitude } = alert;
  const device = deviceId === null ? 'The whole installation' : `Device ${deviceId}`;
  const area: Node[] = [['areaDesc', zoneId === null ? device : (context.zoneName ?? `Zone ${zoneId}`)]];
  if (latitude !== null && longitude !== null)
    area.push(['circle', `${degrees(latitude)},${degrees(longitude)} ${kind.radiusKm.toFixed(1)}`]);
  if (zoneId !== null) area.push(geocode('tocsin:zone', zoneId));
  if (deviceId !== null) area.push(geocode('tocsin:device', deviceId));
  return area;
}

/** Five decimals are about a metre; adding 0 makes -0 one. */
function degrees(value: number): string {
  return (Math.round(value * 1e5) / 1e5 + 0).toFixed(5);
}

function parameter(name: string, value: string): Node {
  return [
    'parameter',
    [
      ['valueName', name],
      ['value', value],
    ],
  ];
}

function geocode(name: string, value: string): Node {
  return [
    'geocode',
    [
      ['valueName', name],
      ['value', value],
    ],
  ];
}

function render([name, content]: Node, indent: string): string {
  if (typeof content === 'string') return `${indent}<${name}>${escapeXml(content)}</${name}>\n`;
  return `${indent}<${name}>\n${content.map((child) => render(child, `${indent}  `)).join('')}${indent}</${name}>\n`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};
/** Longer than any text of an alert. */
const TEXT_CHARACTERS = 100_000;

function escapeXml(text: string): string {
  // cleanText leaves nothing that XML 1.0 section 2.2 forbids.
  return cleanText(text, TEXT_CHARACTERS).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
