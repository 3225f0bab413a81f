import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { intAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { collectMagnitudes, collectRanges } from '../../../src/quantize/index.js';
import { MomentCollector } from '../../../src/quantize/moments.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { buildModel, directRuntime, node, weight } from './build.js';
import { gaussian } from './numbers.js';

const workDirectory = mkdtempSync(path.join(tmpdir(), 'snug-fixed-'));
afterAll(() => rmSync(workDirectory, { recursive: true, force: true }));

const width = 32;

function network(batch: number): Model {
  return buildModel({
    inputs: { x: [batch, width] },
    outputs: ['y'],
    nodes: [
      node('MatMul', ['x', 'w'], 'a'),
      node('Relu', ['a'], 'h'),
      node('Gemm', ['h', 'v'], 'y', { transB: intAttribute(1) }),
    ],
    weights: [
      weight('w', [width, width], gaussian(width ** 2, 1)),
      weight('v', [width, width], gaussian(width ** 2, 2)),
    ],
  });
}

/** Refuses what the runtime would refuse: anything but whole batches. */
function dataset(batch: number, samples: number): Dataset {
  return {
    ...{ name: 'fixed', samples, dims: {}, fixedBatch: batch },
    feeds: (start, count) => {
      expect([count, start + count <= samples]).toEqual([batch, true]);
      const data = gaussian(count * width, 7 + start);
      return Promise.resolve({ x: { dtype: 'float32', dims: [count, width], data } });
    },
    close: () => Promise.resolve(),
  };
}

describe('models that take more samples at a time than are looked at', () => {
  it('are calibrated on whole batches', async () => {
    for (const [batch, samples] of [
      [64, 128],
      [160, 320],
    ] as const) {
      const ranges = await collectRanges(directRuntime(), network(batch), dataset(batch, samples), { workDirectory });
      expect(ranges.get('h')).toBeDefined();
    }
  });

  it('have their moments taken', async () => {
    const tap = { name: 'h', columns: width, transposed: false };
    const collector = new MomentCollector(directRuntime(), network(160), dataset(160, 320), [tap], { workDirectory });
    const [moments] = await collector.collect([tap], []);
    expect(moments).toMatchObject({ rows: 160, samples: 160 });
  });

  it('say how far their values reach', async () => {
    const magnitudes = await collectMagnitudes(directRuntime(), network(16), dataset(16, 32), { workDirectory });
    expect(magnitudes!.get('h')!.high).toBeGreaterThan(1);
  });
});
