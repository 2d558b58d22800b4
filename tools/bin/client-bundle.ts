/**
 * `client-bundle.js [file]`: prints the size of the viewer SDK for browsers, and writes it to the file when one is named.
 * Exit code 1 when it is too large.
 */
import { writeFileSync } from 'node:fs';
import { bundleClient, CLIENT_BYTES_MOST } from '../src/client-bundle.ts';

const { code, bytes, gzipBytes } = await bundleClient();
const [, , file] = process.argv;
if (file !== undefined) writeFileSync(file, code);
process.stdout.write(`viewer SDK: ${bytes} bytes, ${gzipBytes} gzipped, at most ${CLIENT_BYTES_MOST}\n`);
process.exitCode = gzipBytes <= CLIENT_BYTES_MOST ? 0 : 1;
