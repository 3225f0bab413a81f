import { describe, expect, it } from 'vitest';
import { bundledSamples } from '../../../src/app/samples.js';
import { openModel } from '../../../src/app/open.js';
import type { Provider } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { assignDtypes, formatsOf, levelOf, levelsFor } from '../../../src/fit/levels.js';
import { Mixer } from '../../../src/fit/mixed-precision.js';
import { Planner } from '../../../src/fit/solve.js';
import type { WeightInfo } from '../../../src/quantize/index.js';

const [sample] = bundledSamples();
const analysis = (provider: Provider, hasSamples = false): Analysis =>
  new Analysis(openModel(sample.modelPath).model, provider, hasSamples);

/** A weight whose operator has no quantized form, but could be float16 with the rest of the graph. */
function onlyHalf(weights: WeightInfo[]): WeightInfo[] {
  return weights.map((w, i) =>
    i > 0
      ? w
      : {
          ...w,
          options: w.options.map((o) => (o.dtype === 'fp16' ? o : { ...o, allowed: false, reason: 'no kernel' })),
        },
  );
}

describe('assignDtypes', () => {
  it('never slips float16 in for a weight that cannot be 8-bit', () => {
    const a = analysis('webgpu');
    const { dtypes, reasons } = assignDtypes(a, onlyHalf(a.weights), levelOf('int8'), {});
    expect(dtypes.get(a.weights[0].name)).toBe('fp32');
    expect(reasons.get(a.weights[0].name)).toBe('no kernel');
    expect([...dtypes.values()]).not.toContain('fp16');
  });

  it('gives each weight of a mix the format chosen for it', () => {
    const a = analysis('cpu');
    const mix = new Mixer(a.sensitivity).mix(0, 'stored');
    const level = { ...levelOf('int4'), mix };
    const { dtypes } = assignDtypes(a, a.weights, level, {});
    for (const { name } of a.weights) {
      expect(dtypes.get(name)).toBe(mix.formats.get(name)?.dtype);
      expect(formatsOf(level, dtypes).get(name)).toEqual(mix.formats.get(name));
    }
  });

  it('obeys a pinned weight and refuses an impossible one', () => {
    const a = analysis('cpu');
    const [weight] = a.weights;
    expect(
      assignDtypes(a, a.weights, levelOf('int8'), { weights: { [weight.name]: 'fp32' } }).dtypes.get(weight.name),
    ).toBe('fp32');
    expect(() => assignDtypes(a, a.weights, levelOf('int8'), { weights: { [weight.name]: 'fp16' } })).toThrow(
      expect.objectContaining({ code: 'E_NOT_SUPPORTED' }),
    );
  });

  it('offers calibrated 8-bit only with samples', () => {
    const ids = (hasSamples: boolean): string[] => levelsFor(analysis('cpu', hasSamples), {}).map((level) => level.id);
    expect(ids(false)).not.toContain('int8-static');
    expect(ids(true)).toContain('int8-static');
  });
});

it('proposes nothing more of a level that cannot run', () => {
  const planner = new Planner(analysis('webgpu'));
  const pins = { batch: 4 };
  const first = planner.propose(Number.MAX_SAFE_INTEGER, pins, new Set());
  const smaller = planner.propose(150_000, pins, new Set());
  for (const candidate of [first, smaller]) {
    if (candidate === null) throw new Error('nothing was proposed');
    const [level] = candidate.id.split('@');
    const next = planner.propose(candidate === first ? Number.MAX_SAFE_INTEGER : 150_000, pins, new Set([level]));
    expect(next?.id.startsWith(`${level}@`) ?? false).toBe(false);
  }
});
