import { SnugError } from '../contract/errors.js';
import { malformed } from './failures.js';
import type { ByteSource } from './source.js';

/** Wire types of the protobuf encoding; groups (3, 4) are refused. */
export const Wire = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 } as const;

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Text of a view; names must be valid UTF-8, because a lossy decode could make two names equal. */
export function decodeText(bytes: Uint8Array, strict: boolean): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (strict && text.includes('\uFFFD')) {
    try {
      strictUtf8.decode(bytes);
    } catch {
      throw malformed('a name is not valid UTF-8.');
    }
  }
  return text;
}

/** Thrown inside the reader when the outermost message runs past the end of the file. */
export function cutShort(): SnugError {
  return new SnugError('E_TRUNCATED', 'The model file ends too early: part of it is missing.', {
    action: 'Download or copy the file again.',
  });
}

/**
 * Walks the fields of one protobuf message inside a byte range
 * (https://protobuf.dev/programming-guides/encoding/). Never reads outside the range and never recurses.
 */
export class Cursor {
  /** Field number and wire type of the current field, set by {@link next}. */
  field = 0;
  wire = 0;
  position: number;
  /** Where the tag of the current field starts. */
  fieldStart = 0;
  #low = 0;
  #high = 0;

  readonly source: ByteSource;
  readonly end: number;
  readonly #outermost: boolean;

  /** @param outermost the range is the whole file: running past its end means that the file is cut short. */
  constructor(source: ByteSource, start: number, end: number, outermost = false) {
    this.source = source;
    this.position = start;
    this.end = end;
    this.#outermost = outermost;
  }

  #overrun(): SnugError {
    return this.#outermost ? cutShort() : malformed('a field is longer than the message around it.');
  }

  /** Steps to the next field; false at the end of the range. */
  next(): boolean {
    if (this.position >= this.end) return false;
    this.fieldStart = this.position;
    this.#varint();
    if (this.#high !== 0) throw malformed('a field number is too large.');
    this.field = this.#low >>> 3;
    this.wire = this.#low & 7;
    if (this.field === 0) throw malformed('a field has the number 0.');
    return true;
  }

  /** Reads up to ten bytes into two 32-bit halves. */
  #varint(): void {
    let low = 0;
    let high = 0;
    for (let index = 0; index < 10; index++) {
      if (this.position >= this.end) throw this.#overrun();
      const byte = this.source.byte(this.position++);
      const bits = byte & 0x7f;
      if (index < 4) low |= bits << (index * 7);
      else if (index === 4) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (index * 7 - 32);
      if (byte < 0x80) {
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    throw malformed('a number has more than ten bytes.');
  }

  #expect(wire: number): void {
    if (this.wire !== wire) throw malformed(`field ${this.field} has wire type ${this.wire}, not ${wire}.`);
  }

  /** Signed 64-bit value; beyond ±2^53 the nearest double. */
  int(): number {
    this.#expect(Wire.VARINT);
    this.#varint();
    return (this.#high | 0) * 2 ** 32 + this.#low;
  }

  /** float32 field. */
  float(): number {
    this.#expect(Wire.FIXED32);
    return this.#fixed(4).getFloat32(0, true);
  }

  #fixed(size: number): DataView {
    if (this.end - this.position < size) throw this.#overrun();
    const bytes = this.source.view(this.position, size);
    this.position += size;
    return new DataView(bytes.buffer, bytes.byteOffset, size);
  }

  /** Length-delimited field: returns where its content starts and ends, and steps over it. */
  span(): { start: number; end: number } {
    this.#expect(Wire.BYTES);
    this.#varint();
    const length = this.#high * 2 ** 32 + this.#low;
    if (length > this.end - this.position) throw this.#overrun();
    const start = this.position;
    this.position = start + length;
    return { start, end: start + length };
  }

  /** Content of a length-delimited field as a cursor of its own. */
  message(): Cursor {
    const { start, end } = this.span();
    return new Cursor(this.source, start, end);
  }

  /** Content of a length-delimited field, copied. */
  bytes(): Uint8Array {
    const { start, end } = this.span();
    return this.source.view(start, end - start).slice();
  }

  /** Calls `visit` for each value of a repeated integer field, packed or not. */
  ints(visit: (value: number) => void): void {
    if (this.wire === Wire.VARINT) {
      visit(this.int());
      return;
    }
    const inner = this.message();
    inner.wire = Wire.VARINT;
    while (inner.position < inner.end) visit(inner.int());
  }

  /** Calls `visit` with the low and high halves of each value: exact for all 64 bits. */
  halves(visit: (low: number, high: number) => void): void {
    if (this.wire === Wire.VARINT) {
      this.#varint();
      visit(this.#low, this.#high);
      return;
    }
    const inner = this.message();
    while (inner.position < inner.end) {
      inner.#varint();
      visit(inner.#low, inner.#high);
    }
  }

  /** Calls `visit` with the bytes of a repeated fixed-width field, packed or not; the view is short-lived. */
  fixed(size: 4 | 8, visit: (bytes: Uint8Array) => void): void {
    if (this.wire === (size === 4 ? Wire.FIXED32 : Wire.FIXED64)) {
      if (this.end - this.position < size) throw this.#overrun();
      visit(this.source.view(this.position, size));
      this.position += size;
      return;
    }
    const { start, end } = this.span();
    if ((end - start) % size !== 0) throw malformed('a packed field ends inside a number.');
    for (let at = start; at < end; at += 32768) visit(this.source.view(at, Math.min(32768, end - at)));
  }

  /** Steps over the current field, whatever it is. */
  skip(): void {
    switch (this.wire) {
      case Wire.VARINT:
        this.#varint();
        return;
      case Wire.FIXED64:
        this.#fixed(8);
        return;
      case Wire.BYTES:
        this.span();
        return;
      case Wire.FIXED32:
        this.#fixed(4);
        return;
      default:
        throw malformed(`wire type ${this.wire} is not used in ONNX.`);
    }
  }

  /** The whole current field (tag included), to be written back unchanged. */
  raw(): Uint8Array {
    const start = this.fieldStart;
    this.skip();
    return this.source.view(start, this.position - start).slice();
  }

  /** Bytes the current field would take as {@link raw}, without reading them. */
  rawLength(): number {
    const start = this.fieldStart;
    const resume = this.position;
    this.skip();
    const length = this.position - start;
    this.position = resume;
    return length;
  }
}
