/** Pages of `docs/examples` in Chromium, at a server's own origin, as they would lie behind a web server that passes the rest on. */
import { type Browser, chromium, type Page } from 'playwright-core';
import { CHROMIUM_FLAGS, chromiumPath } from './machine.ts';

const FLAGS = [
  ...CHROMIUM_FLAGS,
  // The pages are put in by the test, so to Chromium they come from nowhere, and must not reach a local address.
  '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets',
];
const TYPES = { html: 'text/html', css: 'text/css', js: 'text/javascript' };
/** No inline script, no inline style, nothing from elsewhere. */
const POLICY = "default-src 'self'; img-src data:; connect-src 'self'; object-src 'none'; base-uri 'none'";

/** A page with what it did. */
export interface ExamplePage {
  readonly page: Page;
  /** Errors of its scripts and of the browser, as text. */
  readonly complaints: readonly string[];
  /** URLs of its WebSockets. */
  readonly sockets: readonly string[];
  /** What it complained of but for connections that a test breaks, of which browsers tell by themselves. */
  unexpected(): string[];
  /** Serves it below `/page/` and goes there. */
  open(): Promise<void>;
}

/** The browser for such pages. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: chromiumPath() ?? 'chromium', args: FLAGS });
}

/** A new page at `origin`; `file` answers the text of a file, undefined for one that is not there. */
export async function examplePage(
  browser: Browser,
  viewport: { readonly width: number; readonly height: number },
  origin: string,
  file: (name: string) => string | undefined,
): Promise<ExamplePage> {
  const page = await browser.newPage({ viewport });
  const complaints: string[] = [];
  const sockets: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('websocket', (socket) => sockets.push(socket.url()));
  return {
    page,
    complaints,
    sockets,
    unexpected: () => complaints.filter((text) => !/WebSocket connection|ERR_|Failed to load/.test(text)),
    async open() {
      await page.route(`${origin}/page/**`, async (route) => {
        const name = new URL(route.request().url()).pathname.replace('/page/', '') || 'index.html';
        const body = file(name);
        const contentType = TYPES[name.split('.').at(-1) as keyof typeof TYPES];
        const headers = { 'content-security-policy': POLICY };
        await route.fulfill(body === undefined ? { status: 404 } : { status: 200, body, contentType, headers });
      });
      await page.goto(`${origin}/page/`);
    },
  };
}
