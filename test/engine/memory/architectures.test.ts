import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Dtype } from '../../../src/contract/types.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { writeModel } from '../../../src/onnx/write.js';
import { bertBase, gpt2, GraphBuilder, mobilenetV2, resnet50, unet, vitB16 } from '../../bench/graphs/index.js';
import { batchNorm, conv } from '../../bench/graphs/layers.js';
import { inFormat } from '../../bench/memory/cases.js';
import { compareShapes } from '../../bench/memory/compare.js';
import { observe } from '../../bench/memory/observe.js';
import { distance } from '../../bench/memory/report.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-architectures-'));

/** A dense block: what was computed so far is normalized, convolved and joined to itself. */
function denseNet(): Model {
  const g = new GraphBuilder('dense', 7);
  let x = conv(g, g.input('x', DataType.FLOAT, ['batch', 3, 32, 32]), 'stem', { from: 3, to: 32, kernel: 3 });
  let channels = 32;
  for (let layer = 0; layer < 4; layer++) {
    const normal = g.op('Relu', [batchNorm(g, x, `dense.${layer}.norm`, channels)], {}, `/dense.${layer}`);
    const grown = conv(g, normal, `dense.${layer}.conv`, { from: channels, to: 16, kernel: 3, bias: false });
    x = g.op('Concat', [x, grown], { axis: 1 }, `/dense.${layer}`);
    channels += 16;
  }
  const pool = { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 0 };
  g.output(g.op('AveragePool', [x], pool), 'y', DataType.FLOAT, ['batch', channels, 16, 16]);
  return g.finish(17);
}

/** What several nodes share is counted for each of them (a few small constants). */
const countedTwice = 2048;

const formats: Dtype[] = ['fp32', 'fp16', 'int8', 'int8-static'];

interface Case {
  build: () => Model;
  formats?: Dtype[];
  batches: number[];
  dims?: Record<string, number>;
}

const small = { scale: 1 / 6, layers: 2, vocabulary: 500 };
const cases: Record<string, Case> = {
  'residual convolutions': { build: () => resnet50({ scale: 1 / 4, image: 64 }), batches: [1, 6] },
  'depthwise convolutions': { build: () => mobilenetV2({ scale: 1 / 2, image: 128 }), batches: [1, 3] },
  'skips and transposed convolutions': {
    build: () => unet({ scale: 1 / 4 }),
    batches: [1, 3],
    dims: { height: 64, width: 48 },
  },
  'skips and enlarging': {
    build: () => unet({ scale: 1 / 4, up: 'resize' }),
    // The runtime quantizes the parts of its Concat twice when these are calibrated.
    formats: ['fp32', 'fp16', 'int8'],
    batches: [1, 3],
    dims: { height: 64, width: 48 },
  },
  'dense blocks': { build: denseNet, batches: [1, 6] },
  'image transformer': { build: () => vitB16(small), batches: [1, 4] },
  'text encoder': { build: () => bertBase(small), batches: [1, 4], dims: { sequence: 48 } },
  'text decoder': { build: () => gpt2(small), batches: [1, 4], dims: { sequence: 20, past_sequence: 30 } },
};

describe('estimates of small well-known architectures against onnxruntime', () => {
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe.each(Object.entries(cases))('%s', (name, { build, batches, dims = {}, formats: own = formats }) => {
    test.each(own)('%s: within 1 percent, nodes as predicted', async (dtype) => {
      const file = path.join(folder, `${name}-${dtype}.onnx`.replaceAll(' ', '-'));
      writeModel(inFormat(build(), dtype), file);
      const model = readModel(file);
      for (const batch of batches) {
        const estimate = estimateMemory(model, { provider: 'cpu', batch, dims });
        expect(estimate.unknown).toEqual([]);
        const observed = await observe(file, model, estimate.dims);
        expect(compareShapes(model, estimate.dims, observed.runs).differences).toEqual([]);
        for (const phase of ['load', 'cold', 'warm'] as const) {
          const { low, high } = observed[phase];
          const off = distance(estimate[phase].peakBytes, { low: low - countedTwice, high });
          expect(Math.abs(off), phase).toBeLessThan(0.01);
        }
      }
    });
  });
});
