import type { Provider } from '../contract/types.js';
import type { SizedPlan } from './simulate.js';

interface SizeLimit {
  bytes: number;
  /** What is exceeded, and what that means. */
  words: string;
}

/** No runtime provider handles one tensor of 2 GiB or more safely (32-bit offsets, protobuf limit). */
const anyProvider: SizeLimit = { bytes: 2 ** 31, words: 'in one piece, more than 2 GiB' };

/**
 * WebGPU's guaranteed `maxBufferSize` and `maxStorageBufferBindingSize` (specification, section 3.6.2); adapters may
 * offer more, and onnxruntime asks for all they have. A buffer that is too large fails in the first run; one that
 * cannot be bound whole is bound in pieces.
 */
const webgpu: readonly SizeLimit[] = [
  anyProvider,
  { bytes: 256 * 2 ** 20, words: 'in one piece, more than 256 MiB, the buffer size every WebGPU device has' },
  {
    bytes: 128 * 2 ** 20,
    words: 'in one binding, more than the 128 MiB every WebGPU device can bind; where it can bind no more, in pieces',
  },
];

/** Tensors that are larger than the provider can hold, or is sure to hold, in one piece, in words. */
export function deviceLimits(
  provider: Provider,
  weights: ReadonlyMap<string, number>,
  { plan, bytesOf }: SizedPlan,
): string[] {
  const limits = provider === 'webgpu' ? webgpu : [anyProvider];
  const found: string[] = [];
  const check = (name: string, bytes: number) => {
    const hit = limits.find((limit) => bytes > limit.bytes);
    if (hit) found.push(`"${name}" needs ${bytes} bytes ${hit.words}`);
  };
  for (const [name, bytes] of weights) check(name, bytes);
  for (const step of plan.steps) for (const { buffer } of step.allocates) check(buffer, bytesOf(buffer));
  return found;
}
