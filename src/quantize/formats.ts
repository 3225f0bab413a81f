import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { blockAxis } from './axes.js';
import { weightSqnr } from './damage.js';
import { planEncoding } from './plan.js';
import type { WeightSite } from './sites.js';
import { prepared } from './weights.js';

/** One way to hold a weight that leaves its operator's activations as they are. */
export interface FormatOption {
  format: WeightFormat;
  /** Bytes in the model. */
  storedBytes: number;
  /** Bytes held between runs by the provider. */
  residentBytes: number;
  /** Bytes of the full-precision copy while its operator runs. */
  transientBytes: number;
  /** Power of the weight's error over the power of the weight, from a sample of its values; 0 for fp32. */
  weightNoise: number;
}

const blockSizes = [16, 32, 64, 128, 256];

/** What is offered for each weight besides fp32: block sizes and, for 4-bit codes, zero points. */
const offered: readonly WeightFormat[] = [
  { dtype: 'int8' },
  { dtype: 'int8', blockSize: 32 },
  ...blockSizes.flatMap((blockSize) =>
    [false, true].map((zeroPoints): WeightFormat => ({ dtype: 'int4', blockSize, zeroPoints })),
  ),
];

/**
 * Every weight-only format of every weight on a provider that is worth a choice: none that another beats in stored
 * bytes, resident bytes and noise of the weight alike.
 * @param wanted formats that may be used; default all that are offered here.
 */
export function formatOptions(
  model: Model,
  provider: Provider,
  wanted: (dtype: Dtype) => boolean = () => true,
): Map<string, FormatOption[]> {
  const { model: clone, sites } = prepared(model);
  return new Map(
    sites.map((site) => {
      const options = [{ dtype: 'fp32' } as WeightFormat, ...offered.filter(({ dtype }) => wanted(dtype))].flatMap(
        (format) => optionOf(clone, site, format, provider),
      );
      return [site.name, undominated(options)];
    }),
  );
}

/** For each weight the axis along which the values of a block lie. */
export function blockAxes(model: Model): Map<string, number> {
  return new Map(
    prepared(model).sites.map(({ name, uses, tensor }) => {
      const rank = tensor.dims.length;
      return [name, uses[0] === undefined ? rank - 1 : blockAxis(uses[0], rank)];
    }),
  );
}

function optionOf(model: Model, site: WeightSite, format: WeightFormat, provider: Provider): FormatOption[] {
  const plan = planEncoding(model, site, format, provider);
  if (!plan.allowed || plan.needsSamples) return [];
  const weightNoise = format.dtype === 'fp32' ? 0 : 10 ** (-weightSqnr(site, format) / 10);
  const { bytesAfter: storedBytes, residentBytes, transientBytes } = plan;
  return [{ format, storedBytes, residentBytes, transientBytes, weightNoise }];
}

function undominated(options: readonly FormatOption[]): FormatOption[] {
  const sizes = (option: FormatOption): number[] => [
    option.storedBytes,
    option.residentBytes,
    option.transientBytes,
    option.weightNoise,
  ];
  return options.filter((option, at) => {
    const own = sizes(option);
    return !options.some((other, index) => {
      if (index === at) return false;
      const theirs = sizes(other);
      const noWorse = theirs.every((value, i) => value <= own[i]!);
      // Of equals the first stays: block sizes that come to the same for a narrow weight.
      return noWorse && (theirs.some((value, i) => value < own[i]!) || index < at);
    });
  });
}
