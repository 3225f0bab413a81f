import type { Dtype, Provider } from '../contract/types.js';

export type Speed = 'faster' | 'same' | 'slower';

/** From so many rows on, a product is bound by arithmetic rather than by reading its weights. */
const manyRows = 32;

/**
 * Time of a matrix product against float32 on the CPU, onnxruntime 1.30, 2048 × 2048 with blocks of 32 on 2 threads.
 * One row: 0.90 ms; 4-bit 0.36, 8-bit 0.66, run-time activations 0.69, calibrated 0.65, 2-bit 0.61, NF4 6.2. 128 rows:
 * 14.1 ms; 4-bit 15.4, 8-bit 18.0, run-time activations 3.0, calibrated 4.9, 2-bit 34.6, NF4 16.2. Within a tenth counts as the same.
 */
const cpu: Readonly<Partial<Record<Dtype, { few: Speed; many: Speed }>>> = {
  fp32: { few: 'same', many: 'same' },
  int8: { few: 'faster', many: 'slower' },
  'int8-dynamic': { few: 'faster', many: 'faster' },
  'int8-static': { few: 'faster', many: 'faster' },
  int4: { few: 'faster', many: 'same' },
  nf4: { few: 'slower', many: 'slower' },
  int2: { few: 'faster', many: 'slower' },
};

/**
 * How fast matrix products with such weights are against float32; null where nobody has measured it.
 *
 * @param rows rows of the left matrix: samples, times the tokens of each
 */
export function productSpeed(provider: Provider, dtype: Dtype, rows: number): Speed | null {
  if (provider !== 'cpu') return dtype === 'fp32' ? 'same' : null;
  return cpu[dtype]?.[rows < manyRows ? 'few' : 'many'] ?? null;
}
