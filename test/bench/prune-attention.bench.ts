/**
 * Part of `npm run bench:prune`: widths of heads cut by 30 % and 50 %, nothing else. Repair turns the heads to the
 * directions that the samples use before it cuts them; magnitude takes units away as they are. kjv-gpt runs without
 * its cache, whose shape would have to stay. Prints quality on data Snug did not see.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import type { Model, Node } from '../../src/onnx/model.js';
import { inferShapes } from '../../src/onnx/shape.js';
import { int64Tensor } from '../../src/onnx/tensor.js';
import { writeModel } from '../../src/onnx/write.js';
import { analysisDims, findClasses, pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { accuracy, natsPerToken } from './evaluate.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-attention-'));
const runtime = createRuntime();

/** The decoder as it answers on an empty cache. */
function withoutCache(model: Model): Model {
  const { graph } = model;
  const isCache = ({ name }: { name: string }): boolean => /^(past|present)/.test(name);
  const past = new Set(graph.inputs.filter(isCache).map(({ name }) => name));
  const empty = int64Tensor('empty_cache_shape', [4], [1, 1, 0, 1]);
  const nodes = graph.nodes.map((node): Node => {
    if (!past.has(node.inputs[0] ?? '')) return node;
    const inputs = [node.opType === 'Shape' ? empty.name : node.inputs[1]!];
    return { ...node, opType: 'Identity', inputs, attributes: new Map() };
  });
  const initializers = new Map(graph.initializers).set(empty.name, empty);
  const [inputs, outputs] = [graph.inputs, graph.outputs].map((all) => all.filter((value) => !isCache(value)));
  return { ...model, graph: { ...graph, nodes, initializers, inputs: inputs!, outputs: outputs! } };
}

const cases = [
  { name: 'digits-vit.onnx', data: 'digits-calibration.npy', text: false },
  { name: 'kjv-gpt', data: 'kjv-calibration.txt', text: true },
];

describe.skipIf(!existsSync(models))('widths of heads (needs the sample models)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(cases)('$name', async ({ name, data, text }) => {
    const opened = openModel(path.join(models, name));
    const model = text ? withoutCache(opened.model) : opened.model;
    const dims: Record<string, number> = text ? { sequence: 128 } : {};
    const dataset = await openData(path.join(models, data), opened, dims);
    const judge = async (pruned: Model): Promise<number> => {
      const file = path.join(folder, 'pruned.onnx');
      writeModel(pruned, file, { overwrite: true });
      return text
        ? natsPerToken(file, path.join(models, 'kjv-test.txt'), 128, path.join(models, 'kjv-gpt'))
        : accuracy(file, path.join(models, 'digits-test.npy'), path.join(models, 'digits-test-labels.npy'));
    };
    const before = await judge(model);
    const classes = findClasses(model, inferShapes(model, analysisDims(model)));
    for (const kind of ['value-width', 'query-key-width', 'head-width']) {
      const own = classes.filter((one) => one.kind === kind);
      for (const ratio of own.length === 0 ? [] : [0.3, 0.5]) {
        const perClass = Object.fromEntries(own.map(({ id, width }) => [id, Math.round(width * (1 - ratio))]));
        const quality: Record<string, number> = {};
        for (const method of ['magnitude', 'repair'] as const) {
          const samples = { runtime, dataset, workDirectory: folder, maxSamples: 100, dims };
          const pruned = await pruneModel(model, { ratio: 0, perClass, method, samples });
          quality[method] = await judge(pruned.model);
        }
        const shown = Object.entries(quality).map(([method, value]) => `${method} ${value.toFixed(4)}`);
        console.log([name, kind, ratio, `dense ${before.toFixed(4)}`, ...shown].join(' | '));
        if (text) expect(quality.repair! - before).toBeLessThan(0.05);
        else expect(quality.repair!).toBeGreaterThan(0.99 * before);
      }
    }
    await dataset.close();
  });
});
