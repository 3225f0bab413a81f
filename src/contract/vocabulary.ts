/** The words everything else is told with. */

export const providers = ['cpu', 'cuda', 'dml', 'webgpu', 'coreml'] as const;
export type Provider = (typeof providers)[number];

/**
 * Number format a weight gets. `int8`, `int4`, `int2` and `nf4` (4-bit codes of a table for normally distributed
 * weights) are weight-only (blocks or channels, activations stay float); `int8-dynamic` quantizes activations at run
 * time (MatMulInteger); `int8-static` uses calibrated activation ranges (QDQ around Conv, MatMul, Gemm).
 */
export const dtypes = ['fp32', 'fp16', 'int8', 'int8-dynamic', 'int8-static', 'int4', 'nf4', 'int2'] as const;
export type Dtype = (typeof dtypes)[number];

/** A number format with what block formats leave open; what is absent is chosen as for the format alone. */
export interface WeightFormat {
  dtype: Dtype;
  /** Weights that share a scale: 16, 32, 64, 128 or 256. */
  blockSize?: number;
  /** Whether each block of 4-bit or 2-bit codes has its own zero point, where the provider takes one. */
  zeroPoints?: boolean;
}

export const pruneMethods = ['random', 'magnitude', 'activation', 'repair'] as const;
/**
 * How units are chosen and what makes up for them. `random` and `magnitude` (smallest L2 norm first): nothing does.
 * `activation`: least contribution to the next layer on samples, whose mean is kept. `repair`: least-squares repair of
 * the consumer. Both run inputs: samples, or made-up ones where there are none.
 */
export type PruneMethod = (typeof pruneMethods)[number];

export type Verdict = 'fits' | 'tight' | 'does-not-fit' | 'cannot-tell';
