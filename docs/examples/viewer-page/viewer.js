/**
 * A page that shows alerts, on the viewer SDK. Everything that came from outside goes in as text (`textContent`), never as
 * markup. `tocsin-client.js` is the SDK as one file: `node tools/dist/bin/client-bundle.js <this folder>/tocsin-client.js`.
 * How to look at it: `docs/viewer-sdk.md`.
 */
import { connectAlerts, login } from './tocsin-client.js';

const SHOWN_MOST = 100;
const STATES = {
  protected: 'Protected: every alert so far has been shown.',
  'catching-up': 'Catching up: what was missed is on its way.',
  'not-protected': 'Not protected: an alert would not reach this page now.',
};
const STOPPED = {
  credentials: 'E-mail or password are wrong, or the session has ended. Sign in again.',
  replaced: 'This account watches somewhere else now. Reload the page to watch here.',
  revoked: 'The session was ended. Sign in again.',
};

const form = document.querySelector('#sign-in');
const stateLine = document.querySelector('#state');
const notice = document.querySelector('#notice');
const list = document.querySelector('#alerts');
/** The list items by the ids of their alerts, the oldest first. */
const items = new Map();

/** Where a reload goes on. Another person on this machine begins anew. */
const placeOf = (email) => ({
  load: () => JSON.parse(sessionStorage.getItem(`tocsin:${email}`)),
  save: (point) => sessionStorage.setItem(`tocsin:${email}`, JSON.stringify(point)),
});

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const { email, password } = Object.fromEntries(new FormData(form));
  form.hidden = true;
  notice.hidden = true;
  watch(email, password);
});

function watch(email, password) {
  const alerts = connectAlerts({
    url: document.documentElement.dataset.server || location.origin,
    credentials: login({ email, password }),
    resume: placeOf(email),
  });
  alerts.on('alert', show);
  alerts.on('update', show);
  alerts.on('state', (state, { reason, verifying }) => {
    stateLine.dataset.state = state;
    stateLine.dataset.reason = reason;
    stateLine.textContent = STATES[state] + (verifying ? '' : ' Signatures cannot be checked on this page (no https).');
  });
  alerts.on('gap', ({ outcome }) => {
    if (outcome === 'partly' || outcome === 'unreachable') tell('Some alerts may have been missed: look at the full list.');
  });
  alerts.on('violation', () => tell('Something that is not a genuine alert was received and is not shown.'));
  alerts.on('stopped', (reason) => {
    alerts.close();
    form.hidden = false;
    tell(STOPPED[reason] ?? `The server has turned this page away (${reason}).`);
  });
}

function tell(text) {
  notice.textContent = text;
  notice.hidden = false;
}

function show(alert) {
  const item = items.get(alert.id) ?? document.createElement('li');
  const headline = document.createElement('h3');
  headline.textContent = (alert.status === 'exercise' ? 'EXERCISE: ' : '') + alert.headline;
  const facts = document.createElement('p');
  const time = new Date(alert.onset).toLocaleString();
  facts.textContent = [alert.severity, alert.state, alert.zoneId, time].filter((fact) => fact !== null).join(' · ');
  const description = document.createElement('p');
  description.textContent = alert.description;
  item.dataset.severity = alert.severity;
  item.dataset.state = alert.state;
  item.replaceChildren(headline, facts, ...(alert.description === '' ? [] : [description]));
  if (!items.has(alert.id)) list.prepend(item);
  items.set(alert.id, item);
  for (const [id, oldest] of items) {
    if (items.size <= SHOWN_MOST) break;
    items.delete(id);
    oldest.remove();
  }
}
