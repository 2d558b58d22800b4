/**
 * A wall display of hosts, over a plain WebSocket to `/ws/devices`: the last numbers of each host, those marked that went
 * silent. It needs no library. The token is the server's WS_AUTH_TOKEN (read-only, no account). Whatever came from outside
 * goes in as text (`textContent`), never as markup. How to look at it: `docs/hosts.md`.
 */
const SERVER = document.documentElement.dataset.server || location.origin;
/** A host that was not heard for so long is silent, ms. */
const PRUNE_MS = Number(document.documentElement.dataset.pruneSeconds) * 1000;
/** A silent host is taken off after this, ms. */
const FORGET_MS = 3_600_000;
const SHOWN_MOST = 2000;
const NUMBERS = ['cpu_percent', 'mem_percent', 'disk_percent', 'gpu_percent'];

/** After which close codes it comes back, and how: [first wait, longest wait], ms. What is not here is a lost network. */
const WAITS = { 1001: [500, 5000], 1012: [500, 5000], 1013: [2000, 60_000], 4002: [250, 5000], 4029: [2000, 60_000] };
const LOST = [500, 5000];
/** The server has so long to welcome us, ms: browsers wait for minutes. */
const WELCOME_MS = 10_000;
/** Nobody has welcomed us yet: the token may be wrong, so ask more and more rarely. */
const REFUSED = [1000, 60_000];
/** Closes after which another connection would end the same way. */
const FINAL = {
  1008: 'The server has turned this page away.',
  1009: 'The server has turned this page away.',
  4001: 'This display is shown somewhere else now.',
  4003: 'The server asks for a payment first.',
  4004: 'The token was taken back.',
};

const form = document.querySelector('#open');
const stateLine = document.querySelector('#state');
const table = document.querySelector('table');
const body = document.querySelector('#hosts');
const count = document.querySelector('#count');

/** By id: the last frame, when it arrived (by a clock that nobody sets back), its row. */
const hosts = new Map();
let tooMany = false;
let unsorted = false;

let token = '';
let socket = null;
let timer = null;
let failures = 0;
let welcomed = false;
let openedAt = 0;
/** When the server last vouched for what is shown on this connection (null: not yet), and how often it does, ms. */
let provedAt = null;
let everyMs = 10_000;

const now = () => performance.now();
const isFresh = () => provedAt !== null && now() - provedAt < 2.5 * everyMs;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  token = new FormData(form).get('token').trim();
  // A subprotocol, so that the token is in no URL and no log; it can carry these characters only.
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(token)) return say('cut-off', 'This token has characters that cannot be sent.');
  form.hidden = true;
  clearTimeout(timer);
  failures = 0;
  welcomed = false;
  connect();
});

function connect() {
  timer = null;
  if (!welcomed) say('connecting', 'Connecting …');
  openedAt = now();
  provedAt = null;
  const opened = new WebSocket(`${SERVER.replace(/^http/, 'ws')}/ws/devices`, ['tocsin.v1', `bearer.${token}`]);
  const before = socket;
  socket = opened;
  before?.close();
  opened.addEventListener('message', ({ data }) => opened === socket && take(JSON.parse(data)));
  opened.addEventListener('close', ({ code }) => opened === socket && ended(code));
}

function take(message) {
  if (message.type === 'welcome') {
    everyMs = message.watermarkSeconds * 1000;
    welcomed = true;
    failures = 0;
    // It vouches for the connection until the first watermark is due.
    provedAt = now();
  }
  if (message.type === 'watermark') provedAt = now();
  if (message.type === 'snapshot' || message.type === 'metrics') {
    for (const [id, frame] of Object.entries(message.data)) keep(id, frame);
  }
  // The server is about to end and closes this connection by itself: be elsewhere by then.
  if (message.type === 'moving') later(message.retryAfterMs);
  draw();
}

function keep(id, frame) {
  const host = hosts.get(id) ?? (hosts.size < SHOWN_MOST ? addHost(id) : null);
  if (host === null) {
    tooMany = true;
    return;
  }
  host.heardAt = now();
  NUMBERS.forEach((name, place) => {
    const value = frame[name];
    host.meters[place].hidden = value === null;
    host.meters[place].value = value ?? 0;
    host.texts[place].textContent = value === null ? '–' : `${value.toFixed(1)} %`;
  });
}

function addHost(id) {
  const row = document.createElement('tr');
  const name = document.createElement('th');
  name.scope = 'row';
  name.textContent = id;
  const heard = document.createElement('td');
  const host = { row, heard, heardAt: 0, meters: [], texts: [] };
  const cells = NUMBERS.map((number) => {
    const cell = document.createElement('td');
    const meter = document.createElement('meter');
    Object.assign(meter, { min: 0, max: 100, low: 75, high: 90, optimum: 0 });
    meter.setAttribute('aria-label', `${number.replace('_percent', '')} of ${id}`);
    const text = document.createElement('span');
    cell.append(text, ' ', meter);
    host.meters.push(meter);
    host.texts.push(text);
    return cell;
  });
  row.append(name, ...cells, heard);
  hosts.set(id, host);
  unsorted = true;
  return host;
}

let drawing = false;
/** Once for each picture of the screen, however many messages came. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (unsorted) sort();
    look();
  });
}

function sort() {
  const { compare } = new Intl.Collator('en', { numeric: true });
  body.replaceChildren(...[...hosts].sort(([one], [other]) => compare(one, other)).map(([, { row }]) => row));
  unsorted = false;
}

/** What time alone changes: who is silent, and whether any of this is up to date. */
function look() {
  const fresh = socket !== null && isFresh();
  table.toggleAttribute('data-stale', !fresh);
  // While we hear nobody, nobody is silent.
  if (!fresh) return;
  let silent = 0;
  for (const [id, { row, heard, heardAt }] of hosts) {
    const quietMs = now() - heardAt;
    if (quietMs > FORGET_MS) {
      hosts.delete(id);
      row.remove();
      continue;
    }
    const isSilent = quietMs >= PRUNE_MS;
    if (isSilent) silent += 1;
    row.toggleAttribute('data-silent', isSilent);
    heard.textContent = (isSilent ? 'silent for ' : '') + duration(quietMs) + (isSilent ? '' : ' ago');
  }
  table.hidden = hosts.size === 0;
  const more = tooMany ? `; more than ${SHOWN_MOST} are not shown` : '';
  say('live', `Live: ${hosts.size} ${hosts.size === 1 ? 'host' : 'hosts'}, ${silent} silent${more}.`);
  count.textContent = hosts.size === 0 ? 'No host has reported yet.' : '';
}

function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
}

function ended(code) {
  socket = null;
  if (FINAL[code] !== undefined) {
    clearTimeout(timer);
    timer = null;
    form.hidden = false;
    say('cut-off', FINAL[code]);
  } else {
    const [least, most] = welcomed ? (WAITS[code] ?? LOST) : REFUSED;
    // By chance up to a bound that doubles: a thousand displays do not come back in one moment.
    later(Math.random() * Math.min(most, least * 2 ** failures++));
    const why = welcomed ? 'The connection is cut' : 'The server is not there, or does not take this token';
    say('cut-off', `${why}: what is shown is old. It is tried again.`);
    form.hidden = welcomed;
  }
  table.toggleAttribute('data-stale', true);
}

function later(ms) {
  timer ??= setTimeout(connect, ms);
}

function say(state, text) {
  stateLine.dataset.state = state;
  if (stateLine.textContent !== text) stateLine.textContent = text;
}

setInterval(() => {
  // An open connection proves nothing: without a welcome and then watermarks it is given up, and its end not waited for.
  if (socket !== null && (provedAt === null ? now() - openedAt > WELCOME_MS : !isFresh())) {
    const silentOne = socket;
    ended(1006);
    silentOne.close();
  }
  draw();
}, 1000);
