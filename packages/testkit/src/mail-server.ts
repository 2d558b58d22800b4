/**
 * A mail server for tests: as much of SMTP (RFC 5321) as a client needs to hand over a message, STARTTLS (RFC 3207) and AUTH PLAIN.
 * It writes down what it took, and answers recipients and messages as it was told.
 */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { TLSSocket, createSecureContext } from 'node:tls';

/** A message that was taken. */
export interface ReceivedMail {
  readonly from: string;
  readonly to: readonly string[];
  /** Headers and body as they came, with dots undone. */
  readonly text: string;
  readonly encrypted: boolean;
  /** `user\0password` of AUTH PLAIN, if any. */
  readonly login: string | null;
}

/** A running one. */
export interface MailServer {
  readonly port: number;
  readonly mails: readonly ReceivedMail[];
  /** Replies to the next messages (after DATA), one each, e.g. `451 later`; else 250. `close`: the connection is cut instead. */
  script(...replies: readonly string[]): void;
  /** Recipients that are refused with 550. */
  refuse(...addresses: readonly string[]): void;
  stop(): Promise<void>;
}

/** What it does. */
export interface MailServerOptions {
  /** With them it offers STARTTLS. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

interface Session {
  from: string;
  to: string[];
  login: string | null;
  data: boolean;
  encrypted: boolean;
}

/** Starts one on a free port of this machine. */
export async function startMailServer({ tls }: MailServerOptions = {}): Promise<MailServer> {
  const mails: ReceivedMail[] = [];
  const scripted: string[] = [];
  const refused = new Set<string>();
  const sockets = new Set<Socket>();
  const context = tls === undefined ? undefined : createSecureContext(tls);

  const serve = (socket: Socket, session: Session): void => {
    let pending = '';
    const say = (line: string): void => void socket.write(`${line}\r\n`);
    const commands: Readonly<Record<string, (rest: string) => void>> = {
      EHLO: () => {
        const offers = [...(context === undefined || session.encrypted ? [] : ['STARTTLS']), 'AUTH PLAIN', '8BITMIME'];
        socket.write(['test', ...offers].map((word, n) => `250${n === offers.length ? ' ' : '-'}${word}\r\n`).join(''));
      },
      AUTH: (rest) => {
        session.login = Buffer.from(rest.split(' ')[1] ?? '', 'base64')
          .toString('utf8')
          .slice(1);
        say('235 fine');
      },
      MAIL: (rest) => {
        session.from = address(rest);
        session.to = [];
        say('250 fine');
      },
      RCPT: (rest) => {
        const to = address(rest);
        if (refused.has(to)) return say('550 nobody here by that name');
        session.to.push(to);
        say('250 fine');
      },
      DATA: () => {
        session.data = true;
        say('354 go on');
      },
      RSET: () => say('250 fine'),
      NOOP: () => say('250 fine'),
      QUIT: () => socket.end('221 bye\r\n'),
    };
    const take = (text: string): void => {
      session.data = false;
      const reply = scripted.shift() ?? '250 taken';
      if (reply === 'close') return void socket.destroy();
      if (reply.startsWith('2')) {
        const { from, to, encrypted, login } = session;
        mails.push({ from, to, text: text.replaceAll(/^\.\./gm, '.'), encrypted, login });
      }
      say(reply);
    };
    const read = (chunk: Buffer): void => {
      pending += chunk.toString('utf8');
      for (;;) {
        const mark = session.data ? '\r\n.\r\n' : '\r\n';
        const end = pending.indexOf(mark);
        if (end < 0) return;
        const text = pending.slice(0, end);
        pending = pending.slice(end + mark.length);
        if (session.data) {
          take(text);
          continue;
        }
        const verb = text.slice(0, 4).toUpperCase();
        const rest = text.slice(5);
        if (text.toUpperCase() === 'STARTTLS' && context !== undefined) {
          socket.off('data', read);
          say('220 go on');
          const secure = new TLSSocket(socket, { isServer: true, secureContext: context });
          secure.on('error', () => undefined);
          return serve(secure, { ...session, encrypted: true });
        }
        const command = commands[verb];
        if (command === undefined) say('502 not here');
        else command(rest);
      }
    };
    socket.on('data', read);
  };

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    serve(socket, { from: '', to: [], login: null, data: false, encrypted: false });
    socket.write('220 test ESMTP\r\n');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    mails,
    script: (...replies) => void scripted.push(...replies),
    refuse: (...addresses) => {
      for (const each of addresses) refused.add(each);
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function address(rest: string): string {
  return /<([^>]*)>/.exec(rest)?.[1] ?? '';
}
