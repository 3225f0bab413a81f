import type { Provider } from '../contract/types.js';
import type { SizedPlan } from './simulate.js';

/** No runtime provider handles one tensor of 2 GiB or more safely (32-bit offsets, protobuf limit). */
const largestTensor = 2 ** 31;
/** WebGPU's guaranteed maxBufferSize; adapters may offer more. */
const webgpuBuffer = 256 * 2 ** 20;

/** Tensors that are larger than the provider can hold in one piece, in words. */
export function deviceLimits(
  provider: Provider,
  weights: ReadonlyMap<string, number>,
  { plan, bytesOf }: SizedPlan,
): string[] {
  const limit = provider === 'webgpu' ? webgpuBuffer : largestTensor;
  const what = provider === 'webgpu' ? '256 MiB, the buffer size every WebGPU device has' : '2 GiB';
  const found: string[] = [];
  const check = (name: string, bytes: number) => {
    if (bytes > limit) found.push(`"${name}" needs ${bytes} bytes in one piece, more than ${what}`);
  };
  for (const [name, bytes] of weights) check(name, bytes);
  for (const step of plan.steps) for (const { buffer } of step.allocates) check(buffer, bytesOf(buffer));
  return found;
}
