/** Who got an alert, and when: `GET /v1/alerts/{id}/delivery`. */
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { refuse } from '@tocsin/protocol/refusal-error';
import type { FastifyInstance } from 'fastify';
import { Type, type TObject, type TSchema } from 'typebox';

/** What the route needs: the report of an alert, or null when there is no such alert. */
export interface AlertDeliveryOptions {
  readonly delivery: (alertId: string) => Promise<object | null>;
}

const CLOSED = { additionalProperties: false } as const;
const count = (description: string): TSchema => Type.Integer({ minimum: 0, description });
const time = (description: string): TSchema =>
  Type.Union([Type.Integer(), Type.Null()], { description: `Unix ms; ${description}` });
const percentiles = (description: string): TSchema => {
  const ms = Type.Integer({ minimum: 0 });
  return Type.Union([Type.Object({ p50: ms, p95: ms, p99: ms, max: ms }, CLOSED), Type.Null()], { description });
};

const COUNTS = {
  kept: Type.Boolean({
    description: 'False: too old, or from before deliveries were counted; the other members are then 0 or null',
  }),
  at: time('when the revision was made; all durations count from here'),
  connected: count('Viewers that were connected when the message came and whose filter lets it through'),
  sent: count('Those of them that it was handed to'),
  resent: count('Connections opened later that got it because they resumed'),
  received: count('Connections of both kinds whose receipt covers it'),
  firstSentAt: time('of `sent`'),
  lastSentAt: time('of `sent`'),
  firstReceivedAt: time('of `received`'),
  lastReceivedAt: time('of `received`'),
  sendMs: percentiles('From `at` to the handing over, of `sent`'),
  receiveMs: percentiles('From `at` to the receipt, of `received`; viewers send one at most every 5 s'),
} as const;

const RevisionSchema = Type.Object(
  {
    revision: Type.Integer({ minimum: 1 }),
    offset: Type.Integer({ minimum: 1 }),
    type: Type.Enum(['alert', 'alert-update']),
    ...COUNTS,
  },
  CLOSED,
);

/** The answer. */
export const AlertDeliverySchema: TObject = Type.Object(
  {
    alertId: Type.String(),
    ...COUNTS,
    revisions: Type.Array(RevisionSchema, { description: 'The newest 20, newest first' }),
  },
  { ...CLOSED, title: 'AlertDelivery', description: 'The counts beside `alertId` are those of the first message' },
);

/** Registers the route. */
export function alertDeliveryRoute(app: FastifyInstance, { delivery }: AlertDeliveryOptions): void {
  const schema = {
    summary: 'Who got an alert, and when: connected, sent, received, over all processes',
    tags: ['alerts'],
    querystring: Type.Object({}, CLOSED),
    response: { 200: AlertDeliverySchema },
  };
  const config = { access: { kind: 'bearer', role: 'viewer' } } as const;
  app.get<{ Params: { id: string } }>('/v1/alerts/:id/delivery', { config, schema }, async ({ params: { id } }) => {
    const report = isIdentifier(id) ? await delivery(id) : null;
    if (report === null) throw refuse('not-found', 'There is no such alert');
    return report;
  });
}
