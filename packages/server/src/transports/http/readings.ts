/**
 * The two doors for envelopes over HTTP: `POST /v1/readings` (compact JWS) and the original client's
 * `POST /misurations/`. They only turn bytes into a draft; every decision is the stages'.
 *
 * The hot path: no hooks, no schema, few headers. Content type and size are the framework's to refuse (415, 413).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Refusal } from '@tocsin/protocol/errors';
import { refuse } from '@tocsin/protocol/refusal-error';
import { sendProblem } from './problem.ts';

/** One request's bytes and credential, as the stages want them. */
export interface ArrivedEnvelope {
  readonly body: string;
  readonly apiKey: string | undefined;
  readonly traceparent: string;
}

/** What became of it (see `ingest/ingest.ts`). */
export type EnvelopeAnswer =
  | { readonly accepted: true; readonly id: string; readonly readings: number }
  | { readonly accepted: false; readonly refusal: Refusal };

/** What the routes need. `refused` counts what the framework refused before the stages. */
export interface ReadingsServices {
  readonly envelope: (arrived: ArrivedEnvelope) => Promise<EnvelopeAnswer>;
  readonly original: (arrived: ArrivedEnvelope) => Promise<EnvelopeAnswer>;
  readonly refused: (transport: 'http' | 'original', error: unknown) => void;
}

const CONFIG = { access: { kind: 'own' }, headers: 'bare' } as const;
const READINGS_BODY = { type: 'application/jose', schema: Type.String({ description: 'compact JWS' }) };
const MISURATIONS_BODY = {
  type: 'application/json',
  schema: Type.Object(
    {
      value: Type.Integer(),
      misurator_id: Type.Integer(),
      device_timestamp: Type.Number({ description: 'Unix seconds' }),
      signature_hex: Type.String(),
    },
    { additionalProperties: false },
  ),
};

function arrived(request: FastifyRequest): ArrivedEnvelope {
  const key = request.headers['x-api-key'];
  return {
    body: typeof request.body === 'string' ? request.body : '',
    apiKey: typeof key === 'string' ? key : undefined,
    traceparent: request.traceparent,
  };
}

/** The framework lets a request without body and content type pass; here 415 wins over everything. */
function requireType(request: FastifyRequest): void {
  if (request.headers['content-type'] === undefined) throw refuse('content-type');
}

function countRefusals(app: FastifyInstance, transport: 'http' | 'original', services: ReadingsServices): void {
  app.addHook('onError', (_request, _reply, error, done) => {
    services.refused(transport, error);
    done();
  });
}

/** `POST /v1/readings`. */
export function readingsRoutes(services: ReadingsServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('application/jose', { parseAs: 'string' }, (_request, body, done) => done(null, body));
    countRefusals(app, 'http', services);
    app.post(
      '/v1/readings',
      { config: { ...CONFIG, documentedBody: READINGS_BODY }, schema: READINGS_DOCS },
      async (request, reply): Promise<FastifyReply> => {
        requireType(request);
        const answer = await services.envelope(arrived(request));
        if (!answer.accepted) return sendProblem(reply, answer.refusal);
        reply.header('traceparent', request.traceparent);
        return reply
          .code(202)
          .type('application/json')
          .serializer(String)
          .send(`{"id":"${answer.id}","accepted":${answer.readings}}`);
      },
    );
  };
}

/** `POST /misurations/` of the original client. */
export function misurationsRoutes(services: ReadingsServices): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => done(null, body));
    countRefusals(app, 'original', services);
    const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
      requireType(request);
      const answer = await services.original(arrived(request));
      if (!answer.accepted) return sendProblem(reply, answer.refusal);
      return reply.code(202).type('application/json').serializer(String).send(ORIGINAL_ACCEPTED);
    };
    for (const url of ['/misurations/', '/misurations']) {
      app.post(
        url,
        {
          config: { ...CONFIG, documentedBody: MISURATIONS_BODY },
          schema: { ...MISURATIONS_DOCS, hide: url === '/misurations' },
        },
        handler,
      );
    }
  };
}

const ORIGINAL_ACCEPTED = JSON.stringify({ status: 'accepted', detail: 'The measurement is durable' });

const READINGS_DOCS = {
  summary: 'Send an envelope of readings',
  description:
    'Body: a compact JWS (RFC 7515), content type application/jose, protected header exactly {"alg":"ES256","kid":"<device id>"}. 202 means durable.',
  tags: ['ingest'],
  security: [{ apiKey: [] }],
  response: { 202: Type.Object({ id: Type.String(), accepted: Type.Integer() }) },
};

const MISURATIONS_DOCS = {
  summary: 'Send one measurement (original client)',
  description:
    'Body: {"value","misurator_id","device_timestamp","signature_hex"}; the signature covers "<value>:<second>". 202 means durable.',
  tags: ['original'],
  security: [{ apiKey: [] }],
  response: { 202: Type.Object({ status: Type.String(), detail: Type.String() }) },
};
