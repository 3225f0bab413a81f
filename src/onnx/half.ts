/** Conversions between IEEE 754 binary32 and the 16-bit formats ONNX stores as bit patterns. */

/**
 * binary32 → binary16, round to nearest, ties to even; overflow becomes infinity, NaN stays (quiet) NaN,
 * subnormals are kept. Returns bit patterns.
 */
export function float32ToFloat16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] as number;
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) {
      half = 0x7e00;
    } else if (magnitude >= 0x47800000) {
      half = 0x7c00; // 65536 and above, infinity; 65520…65536 is rounded up below
    } else if (magnitude >= 0x38800000) {
      // Normal result: rebias the exponent by 112, then round the 13 bits that are dropped.
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else if (magnitude >= 0x33000000) {
      // Subnormal result: shift the significand (with its hidden bit) into place.
      const shift = 126 - (magnitude >>> 23);
      const significand = (magnitude & 0x7fffff) | 0x800000;
      const truncated = significand >>> shift;
      const rest = significand & ((1 << shift) - 1);
      const middle = 1 << (shift - 1);
      half = truncated + (rest > middle || (rest === middle && (truncated & 1) === 1) ? 1 : 0);
    } else {
      half = 0;
    }
    result[i] = sign | half;
  }
  return result;
}

/** binary16 bit patterns → binary32, exact. */
export function float16BitsToFloat32(bits: Uint16Array): Float32Array {
  const result = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i] as number;
    const exponent = (half >>> 10) & 31;
    const fraction = half & 0x3ff;
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Infinity
            : NaN
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    result[i] = half & 0x8000 ? -magnitude : magnitude;
  }
  return result;
}

/** bfloat16 bit patterns (the upper half of binary32) → binary32, exact. */
export function bfloat16BitsToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = ((bits[i] as number) << 16) >>> 0;
  return new Float32Array(words.buffer);
}
