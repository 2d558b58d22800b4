/**
 * Joins destinations of notifications to the channel of alerts: which there are, by the settings, and who hears of what they do. A
 * process delivers when it is a worker; several share the destinations by leases.
 */
import { severityRank } from '@tocsin/protocol/alert';
import { ALERT_CHANNEL } from '../alerts/ledger.ts';
import { throttled } from '../ops/throttled-log.ts';
import { createDelivery, type Delivery, type DeliveryEvents } from '../notify/delivery.ts';
import type { Wants } from '../notify/decide.ts';
import { createEmail } from '../notify/email/email.ts';
import { readMailPlace } from '../notify/email/place.ts';
import type { DestinationKind, Notifier } from '../notify/notifier.ts';
import { createSlack } from '../notify/slack/slack.ts';
import { summaryTexts } from '../notify/slack/summary.ts';
import { createSummaryLane, type SummaryLane } from '../notify/summary-lane.ts';
import { readWebhookSecret } from '../notify/webhook/signature.ts';
import { createWebhook } from '../notify/webhook/webhook.ts';
import { channelTopic } from '../realtime/channel.ts';
import type { LiveBoard } from '../realtime/live-board.ts';
import { createNotificationStore } from '../store/postgres/notifications.ts';
import type { Ground } from './ground.ts';
import type { Pipeline } from './pipeline.ts';
import type { Settings } from './settings.ts';
import { VERSION } from './version.ts';

/** A destination with what it wants. */
interface Target {
  readonly notifier: Notifier;
  readonly wants: Wants;
  readonly summaries: SummaryLane | null;
}

/** Of `host.cpu` Slack hears each event once, in the contract's words, and nothing more. */
const SLACK_ONCE: readonly string[] = ['host.cpu'];

/**
 * Starts to deliver to the destinations of the settings, when this process is a worker; answers how to end it. Whatever is raised
 * after it has resolved is told. Rejects when the store does.
 */
export async function startNotifications(
  settings: Settings,
  ground: Ground,
  { channels, live }: Pick<Pipeline, 'channels' | 'live'>,
  publicUrl: string,
): Promise<() => Promise<void>> {
  if (!settings.roles.includes('worker')) return () => Promise.resolve();
  const { clock, store, bus, metrics, instance, log } = ground;
  const events = createEvents(ground);
  const targets = targetsOf(settings, ground, publicUrl, live.board);
  const destinations = createNotificationStore(store.db, ALERT_CHANNEL);
  for (const { notifier } of targets) await destinations.enter(notifier.destination);
  const deliveries = targets.map((target) =>
    createDelivery({
      ...target,
      store: destinations,
      channel: channels,
      channelName: ALERT_CHANNEL,
      clock,
      random: Math.random,
      owner: instance,
      seize: store.engine === 'private',
      events,
    }),
  );
  if (deliveries.length === 0) return () => Promise.resolve();
  metrics.beforeText(() => showStanding(ground, deliveries));
  for (const delivery of deliveries) delivery.start();
  // Whoever hears nothing looks once a second.
  const subscribed = bus.pubsub
    .subscribe(channelTopic(ALERT_CHANNEL), () => {
      for (const delivery of deliveries) delivery.wake();
    })
    .catch((error: unknown) => {
      log.warn({ err: error }, 'notifications do not hear the bus; they look once a second');
    });
  return async () => {
    await Promise.all([...deliveries.map((delivery) => delivery.stop()), subscribed.then((leave) => leave?.())]);
  };
}

function targetsOf(
  settings: Settings,
  { clock, metrics, log }: Ground,
  publicUrl: string,
  board: Pick<LiveBoard, 'active'>,
): Target[] {
  // A made-up address of this machine leads nobody anywhere.
  const link = settings.publicUrl === null ? null : `${settings.publicUrl}/v1/alerts/`;
  const wants = (least: Settings['slackMinSeverity'], firstOnly: readonly string[] = []): Wants => ({
    least: severityRank(least),
    firstOnly,
  });
  const targets: Target[] = [];
  if (settings.slackWebhookUrl !== null) {
    const dropped = (): void => metrics.notifications.add({ destination: 'slack', result: 'summary-dropped' });
    const texts = (): string[] => summaryTexts([...board.active().values()].map(({ frame }) => frame));
    targets.push({
      notifier: createSlack({ url: settings.slackWebhookUrl, link, clock }),
      wants: wants(settings.slackMinSeverity, SLACK_ONCE),
      summaries: createSummaryLane(settings.summaryIntervalSeconds * 1000, texts, dropped),
    });
  }
  const secrets = (settings.webhookSecrets ?? []).flatMap((text) => readWebhookSecret(text) ?? []);
  for (const url of settings.webhookUrls ?? []) {
    const allowPrivate = settings.webhookAllowPrivate;
    targets.push({
      notifier: createWebhook({ url, secrets, source: publicUrl, allowPrivate, clock, version: VERSION }),
      wants: wants(settings.webhookMinSeverity),
      summaries: null,
    });
  }
  const place = settings.smtpUrl === null ? undefined : readMailPlace(settings.smtpUrl);
  if (place !== undefined && settings.emailFrom !== null && settings.emailTo !== null) {
    const { emailFrom: from, emailTo: to } = settings;
    const onRefused = (recipients: number): void =>
      log.warn({ destination: 'email', recipients }, 'the mail server refused an alert for some recipients');
    targets.push({
      notifier: createEmail({ place, from, to, domain: domainOf(publicUrl), link, onRefused }),
      wants: wants(settings.emailMinSeverity),
      summaries: null,
    });
  }
  return targets;
}

/** What Message-IDs end in: our name, where we have one (RFC 2606 reserves the other). */
function domainOf(publicUrl: string): string {
  const { hostname } = new URL(publicUrl);
  return /[a-z]/i.test(hostname) && !hostname.startsWith('[') ? hostname : 'tocsin.invalid';
}

function createEvents({ metrics, log, clock }: Ground): DeliveryEvents {
  const failures = throttled(log, 10_000, clock);
  const given = throttled(log, 1000, clock);
  return {
    result: (destination, result, messages) => metrics.notifications.add({ destination, result }, messages),
    delayed: (destination, code, attempts, pauseMs) =>
      void failures.warn(
        `${destination} ${code}`,
        { destination, code, attempts, pauseMs },
        'a notification is put off and will be tried again',
      ),
    gaveUp: (destination, code, messages) =>
      void given.error(
        `${destination} ${code}`,
        { destination, code, messages },
        'notifications were given up; see tocsin notifications list',
      ),
    failed: (destination, error) =>
      void failures.warn(destination, { destination, err: error }, 'the store did not answer for a destination'),
  };
}

function showStanding({ metrics }: Ground, deliveries: readonly Delivery[]): void {
  const lags = new Map<DestinationKind, { lag: number; delayed: number }>();
  for (const delivery of deliveries) {
    const { kind, lag, delayed } = delivery.standing();
    const sum = lags.get(kind) ?? { lag: 0, delayed: 0 };
    lags.set(kind, { lag: Math.max(sum.lag, lag), delayed: sum.delayed + (delayed ? 1 : 0) });
  }
  for (const [destination, { lag, delayed }] of lags) {
    metrics.notificationLag.set({ destination }, lag);
    metrics.notificationsDelayed.set({ destination }, delayed);
  }
}
