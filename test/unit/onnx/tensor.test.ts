import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SnugError } from '../../../src/contract/errors.js';
import { DataType } from '../../../src/onnx/model.js';
import {
  computedData,
  float16BitsToFloat32,
  float32Tensor,
  float32ToFloat16Bits,
  int64Tensor,
  rawTensor,
  readFloat32,
  readNumbers,
  tensorByteLength,
} from '../../../src/onnx/tensor.js';

const toHalf = (value: number): number => float32ToFloat16Bits(Float32Array.of(value))[0] as number;

describe('binary16', () => {
  it('widens and narrows all 65536 patterns to themselves', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, index) => index);
    const back = float32ToFloat16Bits(float16BitsToFloat32(all));
    for (let bits = 0; bits < 65536; bits++) {
      const isNan = (bits & 0x7fff) > 0x7c00;
      if (isNan) expect((back[bits] as number) & 0x7fff).toBeGreaterThan(0x7c00);
      else if (back[bits] !== bits) expect.fail(`${bits} became ${back[bits]}`);
    }
  });

  it('rounds to nearest, ties to even', () => {
    expect(toHalf(1 + 2 ** -11)).toBe(0x3c00);
    expect(toHalf(1 + 3 * 2 ** -11)).toBe(0x3c02);
    expect(toHalf(1 + 2 ** -11 + 2 ** -20)).toBe(0x3c01);
    expect(toHalf(65504)).toBe(0x7bff);
    expect(toHalf(65519.99)).toBe(0x7bff);
    expect(toHalf(65520)).toBe(0x7c00);
    expect(toHalf(-1e9)).toBe(0xfc00);
    expect(toHalf(2 ** -24)).toBe(1);
    expect(toHalf(2 ** -25)).toBe(0);
    expect(toHalf(2 ** -25 * 1.01)).toBe(1);
    expect(toHalf(1.5 * 2 ** -24)).toBe(2);
    expect(toHalf(-0)).toBe(0x8000);
  });

  it('is never further away than the neighbours', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65504, max: 65504 }), (value) => {
        const bits = toHalf(value);
        const error = Math.abs((float16BitsToFloat32(Uint16Array.of(bits))[0] as number) - value);
        for (const near of [bits - 1, bits + 1]) {
          if ((near & 0x7fff) > 0x7c00 || near < 0 || near > 0xffff || (near ^ bits) & 0x8000) continue;
          const other = Math.abs((float16BitsToFloat32(Uint16Array.of(near))[0] as number) - value);
          expect(error).toBeLessThanOrEqual(other);
        }
      }),
    );
  });
});

describe('tensors', () => {
  it('knows the packed size of sub-byte types', () => {
    expect(tensorByteLength(DataType.INT4, [3, 3])).toBe(5);
    expect(tensorByteLength(DataType.UINT2, [5])).toBe(2);
    expect(tensorByteLength(DataType.FLOAT, [])).toBe(4);
    expect(tensorByteLength(DataType.BFLOAT16, [2, 0])).toBe(0);
    expect(() => tensorByteLength(DataType.STRING, [1])).toThrow(SnugError);
  });

  it('reads what it made', () => {
    expect([...readFloat32(float32Tensor('f', [2], Float32Array.of(1.5, -2)))]).toEqual([1.5, -2]);
    expect(readNumbers(int64Tensor('i', [3], [-1, 0, 2 ** 40]))).toEqual([-1, 0, 2 ** 40]);
    expect(readNumbers(int64Tensor('i', [2], [2 ** 63, -(2 ** 63)]))).toEqual([2 ** 63, -(2 ** 63)]);
    expect(int64Tensor('i', [1], [2 ** 63]).data.read()).toEqual(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127));
    expect(readNumbers(rawTensor('u2', DataType.UINT2, [4], Uint8Array.of(0xe4)))).toEqual([0, 1, 2, 3]);
    expect(readNumbers(rawTensor('s2', DataType.INT2, [4], Uint8Array.of(0xe4)))).toEqual([0, 1, -2, -1]);
    expect(readNumbers(rawTensor('s4', DataType.INT4, [3], Uint8Array.of(0xf1, 0x08)))).toEqual([1, -1, -8]);
    expect([...readFloat32(rawTensor('b', DataType.BFLOAT16, [1], Uint8Array.of(0xc0, 0x3f)))]).toEqual([1.5]);
  });

  it('reads through unaligned bytes', () => {
    const shifted = new Uint8Array(9);
    shifted.set(new Uint8Array(Float32Array.of(3, 4).buffer), 1);
    expect([...readFloat32(rawTensor('f', DataType.FLOAT, [2], shifted.subarray(1)))]).toEqual([3, 4]);
  });

  it('refuses wrong sizes and ranges with a name', () => {
    expect(() => rawTensor('r', DataType.FLOAT, [2], new Uint8Array(7))).toThrow(/"r" needs 8 bytes/);
    expect(() => computedData(4, () => new Uint8Array(3)).read()).toThrow(SnugError);
    expect(() => computedData(4, () => new Uint8Array(4)).readRange(2, 3)).toThrow(SnugError);
  });

  it('does not let readers change what is stored', () => {
    const tensor = float32Tensor('f', [1], Float32Array.of(1));
    tensor.data.read()[3] = 0;
    expect(readFloat32(tensor)[0]).toBe(1);
  });
});
