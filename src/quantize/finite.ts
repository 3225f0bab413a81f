import type { Tensor } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { readFloatRange } from './floats.js';
import { remembered } from './sample.js';

/** Values looked at, in so many runs of consecutive ones; smaller weights are looked at whole. */
const [runs, runLength] = [16, 4096];

/**
 * Whether a weight holds infinities or NaN, which have no 8-bit code and spoil the scale of all around them: tables of
 * masks do, and networks whose training came apart. Large weights are looked at in samples.
 */
export function holdsInfinities({ name, dataType, dims, data }: Tensor): boolean {
  const compute = (): number => {
    const count = elementCount(dims);
    const whole = count <= runs * runLength;
    for (let run = 0; run < (whole ? 1 : runs); run++) {
      const start = Math.floor((run * (count - runLength)) / (runs - 1));
      const values = readFloatRange({ name, dataType, dims, data }, whole ? 0 : start, whole ? count : runLength);
      // Zero times an infinity or NaN is NaN, zero times any other number zero.
      if (Number.isNaN(values.reduce((sum, value) => sum + value * 0, 0))) return 1;
    }
    return 0;
  };
  return remembered(data, 'holds infinities', compute) === 1;
}
