import { describe, expect, it } from 'vitest';
import { Analysis } from '../../../src/fit/analysis.js';
import { assignDtypes, levelOf } from '../../../src/fit/levels.js';
import { smallAtEightBits } from '../../../src/fit/small-weights.js';
import type { Provider } from '../../../src/contract/types.js';
import type { Model } from '../../../src/onnx/model.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

const w = (name: string, rows: number, columns: number): ReturnType<typeof weight> =>
  weight(name, [rows, columns], gaussian(rows * columns, rows + columns));

/** A small query and key, a large middle, a head of 1 % of the weights. */
function model(): Model {
  return buildModel({
    inputs: { x: ['n', 32] },
    outputs: ['y', 'q', 'k'],
    nodes: [
      node('MatMul', ['x', 'wq'], 'q'),
      node('MatMul', ['x', 'wk'], 'k'),
      node('MatMul', ['q', 'up'], 'a'),
      node('MatMul', ['a', 'down'], 'b'),
      node('MatMul', ['b', 'head'], 'y'),
    ],
    weights: [w('wq', 32, 64), w('wk', 32, 64), w('up', 64, 1024), w('down', 1024, 128), w('head', 128, 16)],
  });
}

function widened(provider: Provider, source = model()): string[] {
  const analysis = new Analysis(source, provider, false);
  const plain = assignDtypes(analysis, analysis.weights, levelOf('int4'), {});
  const { formats, reasons } = smallAtEightBits(plain, analysis.weights, source, provider);
  expect([...formats.keys()]).toEqual([...plain.dtypes.keys()]);
  const found = [...formats].flatMap(([name, { dtype }]) => (dtype === 'int8' ? [name] : []));
  expect([...reasons.keys()].sort()).toEqual([...found].sort());
  return found;
}

describe('smallAtEightBits', () => {
  it('widens the smallest weights only, within its share of the bytes', () => {
    expect(widened('cpu')).toHaveLength(1);
    expect(widened('cpu')).not.toContain('up');
    expect(widened('cpu')).not.toContain('down');
  });

  it('takes weights that must agree together or not at all', () => {
    expect(widened('webgpu')).toEqual(['head']);
  });
});
