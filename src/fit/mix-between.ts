import type { Estimate, Pins, WeightPlan } from '../contract/types.js';
import type { Analysis } from './analysis.js';
import { blocksOf, estimateAt, mixPlan, structureLabel, type Structure } from './candidate.js';
import { expectedDamage } from './expected-damage.js';
import type { Level } from './levels.js';
import type { Mix } from './mixed-precision.js';
import { formatKey } from './sensitivity.js';

/**
 * A mix told from 8 and 4 bits for all at the same ratio, without editing the model: bytes of weights are those of the
 * front, what a run needs lies on the straight line through both by the bytes held. While a budget is moved this stands
 * for the structure itself.
 */
export function mixBetween(
  analysis: Analysis,
  level: Level & { mix: Mix },
  eight: Structure,
  four: Structure,
  pins: Pins,
): Structure {
  const { mix } = level;
  const weights = eight.weights.map((weight) => mixed(analysis, mix, weight));
  const sum = (list: readonly WeightPlan[], of: 'bytesBefore' | 'bytesAfter'): number =>
    list.reduce((total, weight) => total + weight[of], 0);
  const residentBytes = (mix.residentBytes * sum(weights, 'bytesBefore')) / mix.bytesBefore;
  const range = eight.residentBytes - four.residentBytes;
  const share = range === 0 ? 0 : (residentBytes - four.residentBytes) / range;
  const percent = Math.round(eight.pruneRatio * 100);
  return {
    ...eight,
    id: `${level.id}@${percent}`,
    label: structureLabel(level, eight.pruneRatio),
    level,
    weights,
    mix: mixPlan(mix),
    residentBytes,
    fileBytes: Math.round(eight.fileBytes - sum(eight.weights, 'bytesAfter') + sum(weights, 'bytesAfter')),
    damage: () => expectedDamage(analysis, level, eight.pruneRatio, eight.pruneMethod, pins),
    prepared: {
      estimate: ({ provider, batch, dims }) =>
        estimateBetween(estimateAt(four, provider, batch, dims), estimateAt(eight, provider, batch, dims), share),
    },
    estimates: new Map(),
  };
}

/** A weight as the mix has it; of a weight that pruning cut, the same share of the bytes. */
function mixed({ sensitivity }: Analysis, mix: Mix, weight: WeightPlan): WeightPlan {
  const format = mix.formats.get(weight.name);
  const before = sensitivity.bytesBefore(weight.name);
  if (format === undefined || before === 0) return weight;
  const key = formatKey(format);
  const option = sensitivity.options.get(weight.name)?.find((each) => formatKey(each.format) === key);
  if (option === undefined) return weight;
  return {
    ...weight,
    dtype: format.dtype,
    bytesAfter: Math.round(option.storedBytes * (weight.bytesBefore / before)),
    ...blocksOf(format),
    noise: mix.noises.get(weight.name) ?? 0,
  };
}

function estimateBetween(low: Estimate, high: Estimate, share: number): Estimate {
  const at = (a: number, b: number): number => Math.max(0, Math.round(a + share * (b - a)));
  const phase = (name: 'load' | 'cold' | 'warm'): Estimate['load'] => ({
    peakBytes: at(low[name].peakBytes, high[name].peakBytes),
    parts: {
      ...high[name].parts,
      weightsBytes: at(low[name].parts.weightsBytes, high[name].parts.weightsBytes),
    },
  });
  const [load, cold, warm] = [phase('load'), phase('cold'), phase('warm')];
  return {
    ...high,
    ...{ load, cold, warm },
    peakBytes: Math.max(load.peakBytes, cold.peakBytes, warm.peakBytes),
    lowBytes: at(low.lowBytes, high.lowBytes),
    highBytes: at(low.highBytes, high.highBytes),
  };
}
