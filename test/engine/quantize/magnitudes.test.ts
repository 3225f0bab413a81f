import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { executionOrder } from '../../../src/memory/order.js';
import type { Graph } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { collectMagnitudes } from '../../../src/quantize/index.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, directRuntime, listDataset, node, runModel, weight } from './build.js';
import { gaussian } from './numbers.js';

const workDirectory = mkdtempSync(path.join(tmpdir(), 'snug-magnitudes-'));
afterAll(() => rmSync(workDirectory, { recursive: true, force: true }));

describe('collectMagnitudes', () => {
  it('looks at every activation before the next is made, and says how far each reaches', async () => {
    const layers = [1, 2, 3, 4];
    const model = buildModel({
      inputs: { x: [8, 16] },
      outputs: ['h4', 's4'],
      nodes: layers.flatMap((n) => [
        node('MatMul', [n === 1 ? 'x' : `s${n - 1}`, 'w'], `a${n}`),
        node('Relu', [`a${n}`], `h${n}`),
        // What came long before is read again, too.
        node('Add', [`h${n}`, 'x'], `s${n}`),
      ]),
      weights: [weight('w', [16, 16], gaussian(256, 1))],
    });
    const made = model.graph.nodes.map(({ outputs }) => outputs[0]!);
    let run: Graph | undefined;
    const direct = directRuntime();
    const runtime: Runtime = {
      ...direct,
      open: (spec) => {
        run = readModel(spec.modelPath).graph;
        return direct.open(spec);
      },
    };
    const feeds = { x: { dims: [8, 16], data: gaussian(128, 2) } };
    const magnitudes = await collectMagnitudes(runtime, model, listDataset([feeds]), { workDirectory });
    const order = executionOrder(run!.nodes).map((at) => run!.nodes[at]!);
    const steps = order.flatMap(({ opType, outputs }) =>
      made.includes(outputs[0]!) || opType === 'ReduceMax' ? [made.includes(outputs[0]!) ? outputs[0]! : opType] : [],
    );
    expect(steps).toEqual(['ReduceMax', ...made.flatMap((value) => [value, 'ReduceMax'])]);

    for (const n of layers) model.graph.outputs.push({ name: `a${n}`, dataType: 1, dims: null });
    const exact = await runModel(model, feeds);
    for (const n of layers) {
      const { low, high } = magnitudes!.get(`a${n}`)!;
      expect(low).toBeCloseTo(Math.min(...exact[`a${n}`]!), 3);
      expect(high).toBeCloseTo(Math.max(...exact[`a${n}`]!), 3);
    }
  });
});
