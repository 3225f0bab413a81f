import { describe, expect, it } from 'vitest';
import type { Model } from '../../../src/onnx/model.js';
import { Segments } from '../../../src/quantize/segments.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';

const width = 64;
const blocks = 4;
/** Residual blocks: a wide layer inside, one narrow value between; a mask goes past all of them. */
function residual(): Model {
  const nodes = [node('Neg', ['m'], 'mask'), node('Sqrt', ['c'], 'constant')];
  for (let block = 0; block < blocks; block++) {
    const from = block === 0 ? 'x' : `r${block - 1}`;
    nodes.push(
      node('Abs', [from], `n${block}`),
      node('MatMul', [`n${block}`, `up${block}`], `u${block}`),
      node('Relu', [`u${block}`], `h${block}`),
      node('Mul', [`h${block}`, 'constant'], `s${block}`),
      node('MatMul', [`s${block}`, `down${block}`], `d${block}`),
      node('Mul', [`d${block}`, 'mask'], `g${block}`),
      node('Add', [from, `g${block}`], `r${block}`),
    );
  }
  const weights = Array.from({ length: blocks }, (_, block) => [
    weight(`up${block}`, [width, 4 * width], new Float32Array(4 * width * width)),
    weight(`down${block}`, [4 * width, width], new Float32Array(4 * width * width)),
  ]).flat();
  return buildModel({
    inputs: { x: ['batch', width], m: ['batch', 1] },
    outputs: [`r${blocks - 1}`],
    nodes,
    weights: [...weights, weight('c', [1], Float32Array.of(4))],
  });
}

const wanted = Array.from({ length: blocks }, (_, block) => [`n${block}`, `s${block}`]).flat();

describe('a model taken apart', () => {
  it('is cut where little passes, and each part has its own weights alone', () => {
    const segments = new Segments(residual(), wanted, {});
    let cut = segments.start;
    for (let block = 1; block < blocks; block++) {
      cut = segments.cutBefore(wanted.slice(2 * block), cut, 1e6);
      // The last block's own mask is of no use to what is wanted of it.
      const passing = block < blocks - 1 ? ['mask', `r${block - 1}`] : [`r${block - 1}`];
      expect(cut.values.map(({ name }) => name)).toEqual(passing);
      expect(cut.values.at(-1)!.dims).toEqual(['batch', width]);
      const part = segments.from(cut).graph;
      const outputs = new Set(part.nodes.flatMap((one) => one.outputs));
      expect(outputs.has(`u${block - 1}`)).toBe(false);
      expect(outputs.has(`s${block}`)).toBe(true);
      // Made of constants: made again.
      expect(outputs.has('constant')).toBe(true);
      expect(part.inputs.map(({ name }) => name)).toContain(`r${block - 1}`);
    }
  });

  it('stays whole where more passes than may be kept', () => {
    const segments = new Segments(residual(), wanted, {});
    expect(segments.cutBefore(wanted.slice(2), segments.start, width)).toBe(segments.start);
    // All of the model is in use again rather than more kept than it weighs.
    expect(segments.cutBefore(wanted.slice(2), segments.start, 1e6)).not.toBe(segments.start);
    // What is looked at before any node has run can only be found at the start.
    expect(segments.cutBefore(['x'], segments.start, 1e6)).toBe(segments.start);
  });
});
