import type { Tensor, TensorData } from '../onnx/model.js';
import { allFinite, floatBytes, readFloatRange } from './floats.js';
import { remembered } from './sample.js';

/** Weights up to this size (1 MiB of float32) are looked at whole, larger ones in so many runs of consecutive values. */
const wholeValues = 2 ** 18;
const [runs, runLength] = [16, 4096];

/**
 * Whether a weight holds infinities or NaN, which have no 8-bit code: tables of masks do, and networks whose training
 * came apart. Large weights are looked at in samples; what those miss is held finite where codes are chosen
 * ({@link heldFinite}). Asked again and again while plans are made: of a part of a weight the whole is looked at, once,
 * and bytes that would have to be computed are not.
 */
export function holdsInfinities({ name, dataType, data }: Tensor): boolean {
  const source = storedSource(data);
  if (source === null) return false;
  const compute = (): number => {
    const count = source.byteLength / floatBytes(dataType)!;
    const whole = count <= wholeValues;
    for (let run = 0; run < (whole ? 1 : runs); run++) {
      const start = whole ? 0 : Math.floor((run * (count - runLength)) / (runs - 1));
      const tensor = { name, dataType, dims: [count], data: source };
      if (!allFinite(readFloatRange(tensor, start, whole ? count : runLength))) return 1;
    }
    return 0;
  };
  return remembered(source, 'holds infinities', compute) === 1;
}

/** The bytes at hand that data are, or are a part of; null where they are computed otherwise. */
function storedSource(data: TensorData): TensorData | null {
  let source: TensorData | undefined = data;
  while (source?.origin === 'computed') source = source.partOf;
  return source ?? null;
}
