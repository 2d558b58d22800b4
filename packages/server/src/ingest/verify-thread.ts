/** The thread that checks signatures (see `verifier.ts`): batches in, one byte for each signature out. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { verifyNow } from './signature.ts';
import type { VerifyBatch } from './verifier.ts';

const keys = new Map<number, KeyObject>();

parentPort?.on('message', (batch: VerifyBatch) => {
  if (batch.reset) keys.clear();
  for (const [id, der] of batch.fresh)
    keys.set(id, createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }));
  const results = new Uint8Array(batch.texts.length);
  for (const [i, text] of batch.texts.entries()) {
    const key = keys.get(batch.keys[i] ?? -1);
    const signature = Buffer.from(batch.signatures[i] ?? '', 'latin1');
    results[i] = key !== undefined && verifyNow(text, key, signature) ? 1 : 0;
  }
  parentPort?.postMessage(results);
});
