import { describe, expect, it } from 'vitest';
import { dtypes } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { Planner } from '../../../src/fit/solve.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

/** Nearly all of it a convolution, and a small head. */
const network = buildModel({
  inputs: { x: [1, 64, 8, 8] },
  outputs: ['y'],
  nodes: [
    node('Conv', ['x', 'wide'], 'a'),
    node('GlobalAveragePool', ['a'], 'b'),
    node('Flatten', ['b'], 'c'),
    node('MatMul', ['c', 'head'], 'y'),
  ],
  weights: [weight('wide', [128, 64, 3, 3], gaussian(128 * 64 * 9, 1)), weight('head', [128, 2], gaussian(256, 2))],
  opset: 21,
});
const view = (hasSamples = false) => new Planner(new Analysis(network, 'cpu', hasSamples)).solve(1e9, {});

describe('the formats of a model', () => {
  it('that suit next to none of its weights are no choice, and say why', () => {
    const nf4 = view().charts.dtypes.find(({ dtype }) => dtype === 'nf4');
    expect(nf4).toMatchObject({ allowed: false, speed: null });
    expect(nf4?.note).toMatch(/only matrix products/u);
    const calibrated = (samples: boolean) => view(samples).charts.dtypes.find(({ dtype }) => dtype === 'int8-static');
    expect(calibrated(false)).toMatchObject({ allowed: false, note: 'needs calibration samples' });
    expect(calibrated(true)?.allowed).toBe(true);
  });

  it('that each weight can have are those that pinning takes', () => {
    const { weightFormats = {} } = view();
    expect(Object.keys(weightFormats).sort()).toEqual(['head', 'wide']);
    const planner = new Planner(new Analysis(network, 'cpu', false));
    for (const [name, formats] of Object.entries(weightFormats)) {
      for (const dtype of dtypes) {
        const pin = (): unknown => planner.solve(1e9, { weights: { [name]: dtype } });
        if (formats.includes(dtype)) expect(pin).not.toThrow();
        else expect(pin).toThrow(/cannot be/u);
      }
    }
  });

  it('add an error each, also where one format is given to all weights', () => {
    const { proposal } = new Planner(new Analysis(network, 'cpu', false)).solve(1e9, { dtype: 'int8' });
    for (const { name, dtype, noise } of proposal?.plan.weights ?? []) {
      expect([name, dtype === 'fp32' || (noise ?? 0) > 0]).toEqual([name, true]);
    }
    expect(proposal?.plan.weights).not.toHaveLength(0);
  });
});
