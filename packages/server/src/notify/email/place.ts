/**
 * Where mail is handed over: an SMTP URL, read. Pure.
 *
 * `smtps://[user:password@]host[:port]` speaks TLS from the start (465), `smtp://…` begins without and must go over to it (STARTTLS,
 * 587); only to this machine itself, or with `?tls=off`, it stays without.
 */

/** A mail server. */
export interface MailPlace {
  readonly host: string;
  readonly port: number;
  /** `wrapped`: TLS from the start; `required`: by STARTTLS or not at all; `off`. */
  readonly tls: 'wrapped' | 'required' | 'off';
  readonly user: string | null;
  readonly password: string | null;
}

const PORTS = { 'smtps:': 465, 'smtp:': 587 } as const;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/i;

/** Undefined when the text is no such URL. */
export function readMailPlace(text: string): MailPlace | undefined {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return undefined;
  }
  const { protocol, hostname, port, pathname, search, hash, username, password } = url;
  if (protocol !== 'smtp:' && protocol !== 'smtps:') return undefined;
  if (hostname === '' || !['', '/'].includes(pathname) || hash !== '' || (username === '') !== (password === '')) {
    return undefined;
  }
  const off = search === '?tls=off';
  if (search !== '' && (!off || protocol === 'smtps:')) return undefined;
  const tls = protocol === 'smtps:' ? 'wrapped' : off || LOOPBACK.test(hostname) ? 'off' : 'required';
  try {
    return {
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port === '' ? PORTS[protocol] : Number(port),
      tls,
      user: username === '' ? null : decodeURIComponent(username),
      password: password === '' ? null : decodeURIComponent(password),
    };
  } catch {
    return undefined;
  }
}
