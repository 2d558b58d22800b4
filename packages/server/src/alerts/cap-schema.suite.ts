/**
 * The rules of the CAP 1.2 schema (OASIS, CAP-v1.2.xsd) and of the standard's section 3.2 that the schema cannot say, as
 * a small validator of its own, so that the check needs no XML library. For tests.
 */

/** An element. Text of an element with children is white space. */
export interface XmlNode {
  readonly name: string;
  readonly attributes: string;
  readonly children: XmlNode[];
  text: string;
}

// XML 1.0 section 2.2.
const FORBIDDEN = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;
const TOKEN = /<\?[^?]*\?>|<(\/?)([A-Za-z]+)([^<>]*)>|([^<]+)/gy;
const ENTITY = /&(amp|lt|gt|quot|apos);/g;
const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** Reads the subset of XML that CAP messages need; throws on anything else. */
export function parseXml(xml: string): XmlNode[] {
  if (FORBIDDEN.test(xml)) throw new Error('a character that XML forbids');
  const top: XmlNode = { name: '', attributes: '', children: [], text: '' };
  const open = [top];
  let end = 0;
  for (const match of xml.matchAll(TOKEN)) {
    if (match.index !== end) break;
    end += match[0].length;
    const [, close, name, attributes = '', text] = match;
    const parent = open.at(-1) ?? top;
    if (text !== undefined) parent.text += decode(text);
    else if (name === undefined) continue;
    else if (close === '/') {
      if (open.pop()?.name !== name) throw new Error(`</${name}> closes another element`);
    } else {
      const node: XmlNode = { name, attributes: attributes.trim(), children: [], text: '' };
      parent.children.push(node);
      open.push(node);
    }
  }
  if (end !== xml.length || open.length !== 1) throw new Error(`not well-formed at ${end}`);
  return top.children;
}

function decode(text: string): string {
  if (/&(?!(?:amp|lt|gt|quot|apos);)/.test(text) || text.includes(']]>')) throw new Error('not well-formed text');
  return text.replace(ENTITY, (_all, name: string) => ENTITIES[name] ?? '');
}

/** Children of a name. */
export function childrenOf(node: XmlNode, name: string): XmlNode[] {
  return node.children.filter((child) => child.name === name);
}

/** The text of an element. */
export function textOf(node: XmlNode): string {
  return node.text;
}

type Check = (text: string) => boolean;
type Rule = readonly [name: string, least: number, most: number, check: Check | readonly Rule[]];

const MANY = Number.POSITIVE_INFINITY;
const any: Check = () => true;
const oneOf =
  (...values: string[]): Check =>
  (text) =>
    values.includes(text);
// The schema's pattern also allows a comma as the sign, a slip that section 3.3.2 does not share.
const dateTime: Check = (text) =>
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d$/.test(text) && !Number.isNaN(Date.parse(text));
/** Section 3.2.1: no spaces, commas or restricted characters. */
const plain: Check = (text) => /^[^\s,<&]+$/.test(text);
const references: Check = (text) =>
  text.split(' ').every((reference) => {
    const [sender = '', identifier = '', sent = '', ...more] = reference.split(',');
    return plain(sender) && plain(identifier) && dateTime(sent) && more.length === 0;
  });
const filled: Check = (text) => text.trim() !== '';
const uri: Check = (text) => URL.canParse(text);
const language: Check = (text) => /^[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*$/.test(text);
const number = '-?\\d+(?:\\.\\d+)?';
const circle: Check = (text) => new RegExp(`^${number},${number} \\d+(?:\\.\\d+)?$`).test(text);
const decimal: Check = (text) => new RegExp(`^${number}$`).test(text);
const pair: readonly Rule[] = [
  ['valueName', 1, 1, filled],
  ['value', 1, 1, any],
];

const AREA: readonly Rule[] = [
  ['areaDesc', 1, 1, any],
  ['polygon', 0, MANY, any],
  ['circle', 0, MANY, circle],
  ['geocode', 0, MANY, pair],
  ['altitude', 0, 1, decimal],
  ['ceiling', 0, 1, decimal],
];

const INFO: readonly Rule[] = [
  ['language', 0, 1, language],
  [
    'category',
    1,
    MANY,
    oneOf(
      'Geo',
      'Met',
      'Safety',
      'Security',
      'Rescue',
      'Fire',
      'Health',
      'Env',
      'Transport',
      'Infra',
      'CBRNE',
      'Other',
    ),
  ],
  ['event', 1, 1, filled],
  [
    'responseType',
    0,
    MANY,
    oneOf('Shelter', 'Evacuate', 'Prepare', 'Execute', 'Avoid', 'Monitor', 'Assess', 'AllClear', 'None'),
  ],
  ['urgency', 1, 1, oneOf('Immediate', 'Expected', 'Future', 'Past', 'Unknown')],
  ['severity', 1, 1, oneOf('Extreme', 'Severe', 'Moderate', 'Minor', 'Unknown')],
  ['certainty', 1, 1, oneOf('Observed', 'Likely', 'Possible', 'Unlikely', 'Unknown')],
  ['audience', 0, 1, any],
  ['eventCode', 0, MANY, pair],
  ['effective', 0, 1, dateTime],
  ['onset', 0, 1, dateTime],
  ['expires', 0, 1, dateTime],
  ['senderName', 0, 1, any],
  ['headline', 0, 1, any],
  ['description', 0, 1, any],
  ['instruction', 0, 1, any],
  ['web', 0, 1, uri],
  ['contact', 0, 1, any],
  ['parameter', 0, MANY, pair],
  ['resource', 0, MANY, any],
  ['area', 0, MANY, AREA],
];

const ALERT: readonly Rule[] = [
  ['identifier', 1, 1, plain],
  ['sender', 1, 1, plain],
  ['sent', 1, 1, dateTime],
  ['status', 1, 1, oneOf('Actual', 'Exercise', 'System', 'Test', 'Draft')],
  ['msgType', 1, 1, oneOf('Alert', 'Update', 'Cancel', 'Ack', 'Error')],
  ['source', 0, 1, any],
  ['scope', 1, 1, oneOf('Public', 'Restricted', 'Private')],
  ['restriction', 0, 1, any],
  ['addresses', 0, 1, any],
  ['code', 0, MANY, any],
  ['note', 0, 1, any],
  ['references', 0, 1, references],
  ['incidents', 0, 1, any],
  ['info', 0, MANY, INFO],
];

/** What is wrong with a document; an empty list when it is a CAP 1.2 message. */
export function capFaults(xml: string): string[] {
  let roots: XmlNode[];
  try {
    roots = parseXml(xml);
  } catch (error) {
    return [String(error)];
  }
  const [root, ...more] = roots;
  if (root === undefined || more.length > 0 || root.name !== 'alert') return ['the root is not one alert'];
  if (root.attributes !== 'xmlns="urn:oasis:names:tc:emergency:cap:1.2"') return ['another namespace'];
  const faults = sequenceFaults(root, ALERT, 'alert');
  const text = (name: string): string | undefined => childrenOf(root, name)[0]?.text;
  if (text('scope') === 'Restricted' && text('restriction') === undefined)
    faults.push('Restricted without restriction (section 3.2.1)');
  if (['Update', 'Cancel'].includes(text('msgType') ?? '') && text('references') === undefined)
    faults.push('no references (section 3.2.1)');
  return faults;
}

function sequenceFaults(node: XmlNode, rules: readonly Rule[], path: string): string[] {
  const faults: string[] = [];
  if (node.text.trim() !== '') faults.push(`${path}: text between elements`);
  let next = 0;
  for (const [name, least, most, check] of rules) {
    const from = next;
    while (node.children[next]?.name === name) next += 1;
    const found = node.children.slice(from, next);
    if (found.length < least || found.length > most) faults.push(`${path}/${name}: ${found.length} times`);
    for (const child of found) {
      if (typeof check !== 'function') faults.push(...sequenceFaults(child, check, `${path}/${name}`));
      else if (child.children.length > 0 || !check(child.text)) faults.push(`${path}/${name}: ${child.text}`);
    }
  }
  if (next < node.children.length) faults.push(`${path}/${node.children[next]?.name}: unknown or out of order`);
  return faults;
}
