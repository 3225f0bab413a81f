import { mixSeed, normalNumbers } from './random.js';
import type { TrainableWeight } from './trainable.js';

/** Deviation of looked-up and added embeddings (Devlin et al. 2018, BERT). */
const embeddingDeviation = 0.02;

/**
 * New random values for a weight: matrices and kernels so that a layer behind a ReLU keeps the size of its signal
 * (He et al. 2015, equation 10), embeddings small, scales one, biases zero.
 */
export function randomWeight(weight: TrainableWeight, seed: number, position: number): Float32Array {
  const values = new Float32Array(weight.dims.reduce((a, b) => a * b, 1));
  if (weight.role === 'scale') return values.fill(1);
  if (weight.role === 'bias') return values;
  const deviation = weight.fanIn > 0 ? Math.sqrt(2 / weight.fanIn) : embeddingDeviation;
  const normal = normalNumbers(mixSeed(seed, position));
  return values.map(() => normal() * deviation);
}
