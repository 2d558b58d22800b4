/**
 * Which addresses a webhook may reach: public ones. Pure.
 *
 * Refused are this host, private and shared networks, link-local addresses (the metadata services of clouds among them), those for
 * documents and benchmarks, multicast, reserved ones, and IPv6 forms that lead to an IPv4 address of these. Sources: IANA's special
 * purpose registries for IPv4 and IPv6 (RFC 6890), RFC 6052 (64:ff9b::/96 leads to the IPv4 address in its last 32 bits).
 */
import { BlockList, isIP, isIPv4 } from 'node:net';

const REFUSED_4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  // Azure's service for its machines; public by its number only.
  ['168.63.129.16', 32],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];

/** Within global unicast, 2000::/3; whatever lies outside of that is refused anyway. */
const REFUSED_6: readonly (readonly [string, number])[] = [
  // IETF protocol assignments: Teredo, benchmarks, ORCHID.
  ['2001::', 23],
  ['2001:db8::', 32],
  // 6to4: leads to any IPv4 address.
  ['2002::', 16],
  ['3fff::', 20],
];

const refused4 = listOf(REFUSED_4, 'ipv4');
const refused6 = listOf(REFUSED_6, 'ipv6');
const global6 = listOf([['2000::', 3]], 'ipv6');

function listOf(ranges: readonly (readonly [string, number])[], family: 'ipv4' | 'ipv6'): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of ranges) list.addSubnet(address, prefix, family);
  return list;
}

/** True when a webhook may connect to `address` (an IPv4 or IPv6 address, without brackets; anything else is refused). */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !refused4.check(address, 'ipv4');
  if (isIP(address) !== 6 || address.includes('%')) return false;
  const groups = groupsOf(address);
  const [high = 0, low = 0] = groups.slice(6);
  const embedded = `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
  if (leads(groups, [0, 0, 0, 0, 0, 0xffff]) || leads(groups, [0x64, 0xff9b, 0, 0, 0, 0])) {
    return isPublicAddress(embedded);
  }
  return global6.check(address, 'ipv6') && !refused6.check(address, 'ipv6');
}

const leads = (groups: readonly number[], first: readonly number[]): boolean =>
  first.every((group, index) => groups[index] === group);

/** The eight groups of an IPv6 address that is one. */
function groupsOf(address: string): number[] {
  // The URL standard writes each address in one way, IPv4 at its end as two groups.
  const whole = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = '', tail] = whole.split('::');
  const parts = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((part) => Number.parseInt(part, 16));
  if (tail === undefined) return parts(head);
  const [before, after] = [parts(head), parts(tail)];
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}
