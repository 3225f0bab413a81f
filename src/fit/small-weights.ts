import type { Provider, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import type { WeightInfo } from '../quantize/index.js';
import type { FourBitFormats } from './four-bits.js';
import type { Assignment } from './levels.js';
import { agreeingWeights } from './mixed-precision.js';

/** Bytes that small weights may take above plain 4 bits, as a share of it. */
const allowance = 0.015;

const reason = 'so small that 8 bits cost next to nothing';

/**
 * 4 bits for every weight but the smallest, without samples: those get 8 bits, the smallest first, in at most 1.5 % more
 * bytes. The first and last layers of networks are small and bear the most: at 1 % more bytes and less, answers of the
 * four sample networks gained 0.8 to 3.5 dB. Weights that must agree are taken together or not at all.
 *
 * @param plain what 4 bits for all are here, fallbacks included
 */
export function smallAtEightBits(
  plain: Assignment,
  weights: readonly WeightInfo[],
  model: Model,
  provider: Provider,
): FourBitFormats {
  const bytesAs = ({ options }: WeightInfo, dtype: WeightFormat['dtype']): number => {
    const option = options.find((one) => one.dtype === dtype);
    return option?.allowed === true ? option.bytesAfter : Infinity;
  };
  const four = weights.filter(({ name }) => plain.dtypes.get(name) === 'int4');
  const together = agreeingWeights(model, provider);
  const grouped = new Set(together.flat());
  const units = [
    ...together.map((names) => four.filter(({ name }) => names.includes(name))),
    ...four.filter(({ name }) => !grouped.has(name)).map((info) => [info]),
  ];
  const sum = (unit: readonly WeightInfo[], dtype: WeightFormat['dtype']): number =>
    unit.reduce((bytes, info) => bytes + bytesAs(info, dtype), 0);
  const formats = new Map<string, WeightFormat>([...plain.dtypes].map(([name, dtype]) => [name, { dtype }]));
  const reasons = new Map<string, string>();
  let left = sum(four, 'int4') * allowance;
  for (const unit of units.sort((a, b) => sum(a, 'int4') - sum(b, 'int4'))) {
    left -= sum(unit, 'int8') - sum(unit, 'int4');
    if (left < 0) break;
    for (const { name } of unit) {
      formats.set(name, { dtype: 'int8' });
      reasons.set(name, reason);
    }
  }
  return { formats, reasons };
}
