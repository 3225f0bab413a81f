import type { TensorData } from './model.js';

/** A piece of an encoded message: bytes, or tensor data that is fetched when its turn to be written comes. */
export type Part = Uint8Array | TensorData;

const isBytes = (part: Part): part is Uint8Array => part instanceof Uint8Array;

/** Pieces up to this size are gathered into one buffer. */
const gatherBytes = 16 * 1024;

/**
 * Encodes one protobuf message as a list of parts, so that its exact size is known before any weight is read.
 * Fields with default values are left to the caller to omit.
 */
export class MessageWriter {
  length = 0;
  readonly #parts: Part[] = [];
  #buffer = Buffer.alloc(256);
  #used = 0;

  #room(bytes: number): void {
    if (this.#used + bytes <= this.#buffer.length) return;
    const grown = Buffer.alloc(Math.max(this.#buffer.length * 2, this.#used + bytes));
    this.#buffer.copy(grown, 0, 0, this.#used);
    this.#buffer = grown;
  }

  #flush(): void {
    if (this.#used === 0) return;
    this.#parts.push(this.#buffer.subarray(0, this.#used));
    this.#buffer = Buffer.alloc(256);
    this.#used = 0;
  }

  #varint(value: number): void {
    this.#room(10);
    let rest = value;
    while (rest >= 0x80) {
      this.#buffer[this.#used++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
      this.length++;
    }
    this.#buffer[this.#used++] = rest;
    this.length++;
  }

  #tag(field: number, wire: number): void {
    this.#varint(field * 8 + wire);
  }

  #append(bytes: Uint8Array): void {
    this.length += bytes.byteLength;
    if (bytes.byteLength > gatherBytes) {
      this.#flush();
      this.#parts.push(bytes);
      return;
    }
    this.#room(bytes.byteLength);
    this.#buffer.set(bytes, this.#used);
    this.#used += bytes.byteLength;
  }

  /** int64 field; values beyond ±2^63 clamp. */
  int(field: number, value: number): void {
    this.#tag(field, 0);
    this.#int(value);
  }

  #int(value: number): void {
    if (Number.isSafeInteger(value) && value >= 0) {
      this.#varint(value);
      return;
    }
    const limit = 2n ** 63n;
    let big = BigInt(Math.trunc(value));
    if (big >= limit) big = limit - 1n;
    if (big < -limit) big = -limit;
    let rest = BigInt.asUintN(64, big);
    this.#room(10);
    while (rest >= 0x80n) {
      this.#buffer[this.#used++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
      this.length++;
    }
    this.#buffer[this.#used++] = Number(rest);
    this.length++;
  }

  float(field: number, value: number): void {
    this.#tag(field, 5);
    this.#room(4);
    this.#buffer.writeFloatLE(value, this.#used);
    this.#used += 4;
    this.length += 4;
  }

  bytes(field: number, value: Uint8Array): void {
    this.#tag(field, 2);
    this.#varint(value.byteLength);
    this.#append(value);
  }

  string(field: number, value: string): void {
    this.bytes(field, Buffer.from(value, 'utf8'));
  }

  /** Bytes that are already encoded fields. */
  raw(fields: Uint8Array): void {
    this.#append(fields);
  }

  /** A bytes field whose content is fetched when written. */
  data(field: number, data: TensorData): void {
    this.#tag(field, 2);
    this.#varint(data.byteLength);
    if (data.origin === 'memory' && data.byteLength <= gatherBytes) {
      this.#append(data.read());
      return;
    }
    this.length += data.byteLength;
    this.#flush();
    this.#parts.push(data);
  }

  /** An embedded message; `inner` must not be used afterwards. */
  message(field: number, inner: MessageWriter): void {
    this.#tag(field, 2);
    this.#varint(inner.length);
    const before = this.length;
    for (const part of inner.finish()) {
      if (isBytes(part)) this.#append(part);
      else {
        this.#flush();
        this.#parts.push(part);
      }
    }
    this.length = before + inner.length;
  }

  /** The parts in order; their sizes add up to {@link length}. */
  finish(): Part[] {
    this.#flush();
    return this.#parts;
  }
}
