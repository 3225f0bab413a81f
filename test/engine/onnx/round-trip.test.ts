import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { feedInputs, listConstantNodesFirst } from '../../../src/onnx/graph.js';
import type { Graph, Model, Tensor } from '../../../src/onnx/model.js';
import { DataType } from '../../../src/onnx/model.js';
import { parseModel, readModel } from '../../../src/onnx/read.js';
import { serializeModel, writeModel } from '../../../src/onnx/write.js';

const models = path.resolve('../shared/models');
const files = ['digits-mlp.onnx', 'digits-resnet.onnx', 'digits-vit.onnx', 'kjv-gpt/model.onnx'];

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const describeTensor = (tensor: Tensor): unknown => [
  tensor.name,
  tensor.dataType,
  tensor.dims,
  tensor.strings,
  sha(tensor.data.read()),
];

/** Everything a model says, in plain values that can be compared. */
function plain(graph: Graph): unknown {
  return {
    name: graph.name,
    nodes: graph.nodes.map((node) => [
      node.name,
      node.domain,
      node.opType,
      node.inputs,
      node.outputs,
      [...node.attributes].map(([name, attribute]) =>
        attribute.type === 'graph'
          ? [name, plain(attribute.value)]
          : attribute.type === 'tensor'
            ? [name, describeTensor(attribute.value)]
            : [name, attribute.type, attribute.value, attribute.raw],
      ),
      node.docString,
      node.unknown,
    ]),
    initializers: [...graph.initializers.values()].map(describeTensor),
    inputs: graph.inputs,
    outputs: graph.outputs,
    valueInfo: [...graph.valueInfo.values()],
    docString: graph.docString,
    unknown: graph.unknown,
  };
}

const sizes: Record<string, number> = { batch: 3, past_sequence: 2, sequence: 4, total_sequence: 6 };

function feeds(model: Model): Record<string, ort.Tensor> {
  let seed = 7;
  const next = (): number => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  return Object.fromEntries(
    feedInputs(model.graph).map((input) => {
      const dims = (input.dims ?? []).map((dim) => (typeof dim === 'number' ? dim : (sizes[dim ?? ''] ?? 3)));
      const count = dims.reduce((a, b) => a * b, 1);
      const tensor =
        input.dataType === DataType.INT64
          ? new ort.Tensor(
              'int64',
              BigInt64Array.from({ length: count }, () => BigInt(Math.floor(next() * 8))),
              dims,
            )
          : new ort.Tensor('float32', Float32Array.from({ length: count }, next), dims);
      return [input.name, tensor];
    }),
  );
}

async function run(file: string, model: Model): Promise<Record<string, unknown>> {
  // Without optimisation the result depends on the nodes alone, not on the order they are fused in.
  const session = await ort.InferenceSession.create(file, { graphOptimizationLevel: 'disabled' });
  const outputs = await session.run(feeds(model));
  await session.release();
  return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, [value.dims, value.data]]));
}

describe.skipIf(!existsSync(models))('round trip of the sample models (needs ../shared/models)', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'snug-onnx-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each(files)('%s means the same after read and write', async (name) => {
    const original = path.join(models, name);
    const before = sha(readFileSync(original));
    const model = readModel(original);
    const out = path.join(folder, `${path.basename(path.dirname(name))}-${path.basename(name)}`);
    const written = writeModel(model, out);
    const again = readModel(out);
    const ordered = { ...model.graph, nodes: listConstantNodesFirst(model.graph) };
    expect(plain(again.graph)).toEqual(plain(ordered));
    expect({ ...again, graph: null, source: null }).toEqual({ ...model, graph: null, source: null });
    expect(written.bytes).toBe(readFileSync(out).byteLength);
    expect(await run(out, model)).toEqual(await run(original, model));
    expect(sha(readFileSync(original))).toBe(before);
    expect(readdirSync(folder).filter((file) => file.includes('partial'))).toEqual([]);
  });

  it.each(files)('%s written twice gives the same bytes', (name) => {
    // The first write normalises (explicit default values, packed fields); from then on nothing may change.
    const once = serializeModel(parseModel(readFileSync(path.join(models, name))), { nodeOrder: 'keep' });
    expect(sha(serializeModel(parseModel(once), { nodeOrder: 'keep' }))).toBe(sha(once));
  });

  it.each(files)('%s runs the same with its weights in a data file', async (name) => {
    const original = path.join(models, name);
    const model = readModel(original);
    const out = path.join(folder, `external-${path.basename(path.dirname(name))}-${path.basename(name)}`);
    const written = writeModel(model, out, { externalData: 'always' });
    expect(written.files.map((file) => file.name)).toEqual([path.basename(out), `${path.basename(out)}.data`]);
    const again = readModel(out);
    expect(again.source?.externalFiles).toHaveLength(1);
    expect([...again.graph.initializers.values()].map(describeTensor)).toEqual(
      [...model.graph.initializers.values()].map(describeTensor),
    );
    expect(await run(out, model)).toEqual(await run(original, model));
  });
});
