/**
 * WebSocket frames as the server writes them: text, final, not masked, not compressed (RFC 6455 section 5.2).
 * A frame is built once and the same bytes go to every viewer; nobody may change them.
 */

/** First byte: FIN, no extension bits, opcode 1 (text). */
const FIN_TEXT = 0x81;
const LENGTH_16 = 126;
const LENGTH_64 = 127;

/** Builds the frame of one text message. */
export function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const header = length < LENGTH_16 ? 2 : length <= 0xffff ? 4 : 10;
  // Not from the shared pool: a frame may live long in the ring and would pin its neighbours.
  const frame = Buffer.allocUnsafeSlow(header + length);
  frame[0] = FIN_TEXT;
  if (header === 2) {
    frame[1] = length;
  } else if (header === 4) {
    frame[1] = LENGTH_16;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = LENGTH_64;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, header);
  return frame;
}
