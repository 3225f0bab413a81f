import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { variantsOf } from '../../../src/fit/variants.js';
import { recoverModel, type RecoverRequest } from '../../../src/fit/recover.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { serializeModel, writeModel } from '../../../src/onnx/write.js';
import { pruneModel } from '../../../src/prune/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { cutValues, partBetween } from '../../../src/train/blocks.js';
import { forwardGraph } from '../../../src/train/forward.js';
import { residualModel, sampler, tokenModel, tokens, width, windows } from './recover-models.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-recover-'));
const runtime = createRuntime({ threads: 1 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const samples = sampler(9);

describe('parts of a network', () => {
  it('lie between the values everything passes through', () => {
    const forward = forwardGraph(residualModel(), { inputDims: { x: ['batch', width] } });
    const cuts = cutValues(forward);
    expect(cuts.map(({ name }) => name)).toEqual(['h0', 'h1', 'h2', 'y']);
    const part = partBetween(forward, cuts[0]!, cuts[1]!);
    expect(part.graph.inputs.map(({ name }) => name)).toEqual(['h0']);
    expect([...part.graph.initializers.keys()]).toEqual(['up0', 'down0']);
    expect(part.graph.nodes).toHaveLength(4);
    expect(forward.graph.nodes).toHaveLength(10);
  });
});

describe('recovery after pruning', () => {
  it('brings answers closer on samples nothing was fitted to, all weights together or in blocks', async () => {
    const original = residualModel();
    const { model: pruned } = await pruneModel(original, { ratio: 0.5, method: 'magnitude' });
    const before = serializeModel(pruned);
    const request: RecoverRequest = {
      original,
      changed: pruned,
      output: 'y',
      dataset: samples(100),
      heldOut: samples(40),
      runtime,
      folder,
      memoryBytes: 1e9,
      updates: 120,
      seconds: 60,
    };
    const result = await recoverModel(request);
    // The damage that magnitude leaves is mostly what training can make up for.
    expect(result).toMatchObject({ whole: true, blocks: 0 });
    expect(result.after.klNats!).toBeLessThan(result.before.klNats! * 0.5);
    expect(result.model.graph.initializers.get('up0')!.dims).toEqual([width, 16]);
    expect(serializeModel(pruned)).toEqual(before);
    expect(readdirSync(folder)).toEqual([]);

    // Nothing but the request decides what comes out.
    const again = await recoverModel(request);
    expect(serializeModel(again.model)).toEqual(serializeModel(result.model));

    // Without the memory for all weights at once, blocks alone are trained.
    const blocks = await recoverModel({ ...request, memoryBytes: 0 });
    expect(blocks.whole).toBe(false);
    expect(blocks.blocks).toBeGreaterThan(0);
    expect(blocks.after.klNats!).toBeLessThan(blocks.before.klNats!);
  });

  it('does not bring another answer further away', async () => {
    const original = residualModel();
    // What pruning did not touch at all.
    original.graph.nodes.push(makeNode('Identity', ['h0'], ['hidden']));
    original.graph.outputs.push({ name: 'hidden', dataType: DataType.FLOAT, dims: ['batch', width] });
    const { model: changed } = await pruneModel(original, { ratio: 0.5, method: 'magnitude' });
    const request: RecoverRequest = {
      ...{ original, changed, output: 'y', dataset: samples(100), heldOut: samples(40) },
      ...{ runtime, folder, memoryBytes: 1e9, updates: 60, seconds: 60 },
    };
    const alone = await recoverModel(request);
    const both = await recoverModel({ ...request, others: ['hidden'] });
    expect([alone.left, both.left]).toEqual([null, null]);
    // Only the lower of both rates leaves the other answer nearly as it was.
    expect(both.after.klNats!).toBeLessThan(both.before.klNats!);
    expect(both.after.klNats!).toBeGreaterThan(alone.after.klNats! * 1.2);
  });

  it('draws tokens from what the model expects, and learns from its answers to all of them', async () => {
    const original = tokenModel();
    const modelPath = path.join(folder, 'tokens.onnx');
    writeModel(original, modelPath, { overwrite: true });
    const drawing = {
      ...{ dataset: windows(20, 1), count: 200, modelPath, output: 'logits', classes: true },
      ...{ runtime, seed: 1, until: Infinity },
    };
    const variants = await variantsOf(drawing);
    expect(variants.samples).toBe(200);
    const drawn = [...((await variants.feeds(0, 200)).input_ids!.data as BigInt64Array)].map(Number);
    expect(drawn.every((id) => id >= 0 && id < tokens)).toBe(true);
    // The samples use half of the vocabulary, the model expects all of it.
    expect(new Set(drawn).size).toBeGreaterThan(tokens / 2);
    const again = await variantsOf(drawing);
    expect([...((await again.feeds(0, 200)).input_ids!.data as BigInt64Array)].map(Number)).toEqual(drawn);
    expect((await variantsOf({ ...drawing, until: 0 })).samples).toBe(0);
    // What no tokens are expected of is not asked for them: they come from other samples.
    const mixed = await variantsOf({ ...drawing, classes: false });
    expect(mixed.samples).toBe(200);
    const taken = [...((await mixed.feeds(0, 200)).input_ids!.data as BigInt64Array)].map(Number);
    expect(taken.every((id) => id >= 0 && id < tokens / 2)).toBe(true);

    const { model: changed } = await pruneModel(original, { ratio: 0.5, method: 'magnitude' });
    const { before, after, whole } = await recoverModel({
      ...{ original, changed, output: 'logits', runtime, folder, memoryBytes: 1e9, updates: 100, seconds: 60 },
      dataset: windows(60, 2),
      heldOut: windows(20, 3),
    });
    expect(whole).toBe(true);
    expect(after.klNats!).toBeLessThan(before.klNats! * 0.5);
  });

  it('trains nothing once its time is over', async () => {
    const told: string[] = [];
    const original = residualModel();
    const { model: pruned } = await pruneModel(original, { ratio: 0.5, method: 'magnitude' });
    const result = await recoverModel({
      ...{ original, changed: pruned, output: 'y', runtime, folder, memoryBytes: 1e9, updates: 50 },
      dataset: samples(40),
      heldOut: samples(10),
      seconds: 0,
      onProgress: ({ phase }) => told.push(phase),
    });
    expect(result).toMatchObject({ blocks: 0, whole: false, left: 'no time' });
    expect(told).toEqual([]);
  });

  it('leaves a model alone that lost nothing', async () => {
    const original = residualModel();
    const result = await recoverModel({
      original,
      changed: original,
      output: 'y',
      dataset: samples(40),
      heldOut: samples(10),
      runtime,
      folder,
      memoryBytes: 0,
      updates: 50,
      seconds: 60,
    });
    expect(result).toMatchObject({ blocks: 0, whole: false, left: 'harmless' });
    expect(result.model).toBe(original);
  });
});
