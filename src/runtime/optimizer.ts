import type { OptimizerSettings } from './training-types.js';

/** A parameter and what the optimizer remembers of it; changed in place. */
export interface OptimizedParameter {
  dims: readonly number[];
  value: Float32Array;
  /** Running mean of gradients (adamw), or the momentum (sgd). */
  moment1: Float32Array;
  /** Running mean of squared gradients; empty for sgd. */
  moment2: Float32Array;
  /** One bit per element: set where the element stays zero; null when none does. */
  zeros: Uint8Array | null;
}

/** Euclidean length of all gradients together. */
export function gradientNorm(gradients: readonly Float32Array[]): number {
  let sum = 0;
  for (const gradient of gradients) {
    for (let i = 0; i < gradient.length; i++) sum += (gradient[i] as number) ** 2;
  }
  return Math.sqrt(sum);
}

/** Factor that brings a gradient of length `norm` within the longest one allowed (Pascanu et al. 2013). */
export function clipFactor(norm: number, longest: number | null): number {
  return longest !== null && norm > longest ? longest / norm : 1;
}

/** Bits of the elements that are exactly zero; null when fewer than one in twenty are, or for a vector. */
export function zeroBits(value: Float32Array, dims: readonly number[]): Uint8Array | null {
  if (dims.length < 2) return null;
  const bits = new Uint8Array(Math.ceil(value.length / 8));
  let count = 0;
  for (let i = 0; i < value.length; i++) {
    if (value[i] !== 0) continue;
    bits[i >> 3] = (bits[i >> 3] as number) | (1 << (i & 7));
    count++;
  }
  return count * 20 >= value.length ? bits : null;
}

/**
 * One update of one parameter.
 * @param update number of this update, from 1 on (Adam corrects its first means by it)
 * @param factor the gradient is multiplied by it first (clipping)
 */
export function updateParameter(
  parameter: OptimizedParameter,
  gradient: Float32Array,
  settings: OptimizerSettings,
  rate: number,
  update: number,
  factor: number,
): void {
  const decay = parameter.dims.length >= 2 ? settings.weightDecay : 0;
  if (settings.kind === 'sgd') descend(parameter, gradient, rate, settings.momentum, decay, factor);
  else adam(parameter, gradient, settings, rate, update, decay, factor);
  const { zeros, value } = parameter;
  if (zeros === null) return;
  for (let i = 0; i < value.length; i++) if (((zeros[i >> 3] as number) >> (i & 7)) & 1) value[i] = 0;
}

function descend(
  { value, moment1 }: OptimizedParameter,
  gradient: Float32Array,
  rate: number,
  momentum: number,
  decay: number,
  factor: number,
): void {
  for (let i = 0; i < value.length; i++) {
    const direction =
      momentum * (moment1[i] as number) + factor * (gradient[i] as number) + decay * (value[i] as number);
    moment1[i] = direction;
    value[i] = (value[i] as number) - rate * direction;
  }
}

function adam(
  { value, moment1, moment2 }: OptimizedParameter,
  gradient: Float32Array,
  { beta1, beta2, epsilon }: OptimizerSettings,
  rate: number,
  update: number,
  decay: number,
  factor: number,
): void {
  const step = rate / (1 - beta1 ** update);
  const unbias = 1 / Math.sqrt(1 - beta2 ** update);
  const kept = 1 - rate * decay;
  const [fresh1, fresh2] = [1 - beta1, 1 - beta2];
  for (let i = 0; i < value.length; i++) {
    const g = factor * (gradient[i] as number);
    const mean = beta1 * (moment1[i] as number) + fresh1 * g;
    const square = beta2 * (moment2[i] as number) + fresh2 * g * g;
    moment1[i] = mean;
    moment2[i] = square;
    value[i] = kept * (value[i] as number) - (step * mean) / (Math.sqrt(square) * unbias + epsilon);
  }
}
