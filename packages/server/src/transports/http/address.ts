/**
 * Who is at the other end: the address of the peer, seen through the proxies that we trust and no others.
 * `X-Forwarded-For` is read from its right end for as long as the hop it came from is on the list (never a hop count,
 * never the left end, which the client writes itself). Text in it that is no address ends the walk.
 */
import { BlockList, isIP } from 'node:net';

/** The most entries of `X-Forwarded-For` that are walked. */
const HOPS = 16;

/** An address without an IPv4-in-IPv6 prefix or a scope id. */
export function plainAddress(address: string): string {
  const scope = address.indexOf('%');
  const bare = scope === -1 ? address : address.slice(0, scope);
  const lower = bare.toLowerCase();
  return lower.startsWith('::ffff:') && isIP(lower.slice(7)) === 4 ? lower.slice(7) : lower;
}

function parseList(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list;
}

/** Answers the address of a request's peer from the socket's address and the text of `X-Forwarded-For`. */
export type AddressReader = (remote: string | undefined, forwardedFor: string | string[] | undefined) => string;

/** Answers whether an address is on a list of addresses and CIDRs (checked by the settings already; throws on others). */
export function createAddressList(entries: readonly string[]): (address: string) => boolean {
  const list = entries.length === 0 ? null : parseList(entries);
  return (address) => {
    const family = isIP(address);
    return list !== null && family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
  };
}

/** Builds the reader. `trusted`: addresses or CIDRs, checked by the settings already; throws on others. */
export function createAddressReader(trusted: readonly string[]): AddressReader {
  const trusts = createAddressList(trusted);
  return (remote, forwardedFor) => {
    let address = plainAddress(remote ?? '');
    if (forwardedFor === undefined || !trusts(address)) return address;
    const text = typeof forwardedFor === 'string' ? forwardedFor : forwardedFor.join(',');
    const hops = text.split(',').slice(-HOPS);
    while (trusts(address)) {
      const before = plainAddress((hops.pop() ?? '').trim());
      if (isIP(before) === 0) break;
      address = before;
    }
    return address;
  };
}

/** What limits count an address by: IPv4 whole, IPv6 by its /64. */
export function addressKey(address: string): string {
  if (isIP(address) !== 6) return address;
  const [left = '', right] = address.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  // A dotted tail (::1.2.3.4) stands for two groups; it lies in the second half and does not matter here.
  const dotted = tail.at(-1)?.includes('.') === true ? 1 : 0;
  const zeros = right === undefined ? 0 : 8 - head.length - tail.length - dotted;
  const groups = [...head, ...Array<string>(Math.max(0, zeros)).fill('0'), ...tail].slice(0, 4);
  return `${groups.map((group) => (Number.parseInt(group, 16) || 0).toString(16)).join(':')}::/64`;
}
