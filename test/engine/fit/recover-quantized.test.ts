import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import type { Dtype } from '../../../src/contract/types.js';
import { fitModel } from '../../../src/fit/fit.js';
import { recoverModel, type RecoverOutcome } from '../../../src/fit/recover.js';
import { blocksOf } from '../../../src/fit/recover-blocks.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { forwardGraph } from '../../../src/train/forward.js';
import { residualModel, sampler } from './recover-models.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-recover-quantized-'));
const runtime = createRuntime({ threads: 1 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

const stream = 32;
const samples = sampler(9, stream);
const original = residualModel({ stream, bias: 0.1 });

const quantize = (dtype: Dtype): Model =>
  quantizeModel(original, new Map(quantizableWeights(original, 'cpu').map(({ name }) => [name, { dtype }])), {
    provider: 'cpu',
  }).model;

const recover = (changed: Model, memoryBytes = 1e9): Promise<RecoverOutcome> =>
  recoverModel({
    ...{ original, changed, output: 'y', dataset: samples(100), heldOut: samples(40) },
    ...{ runtime, folder, memoryBytes, updates: 80, seconds: 60 },
  });

/** Initializers whose bytes differ, with their element types. */
function changes(before: Model, after: Model): [string, number][] {
  return [...after.graph.initializers].flatMap(([name, { dataType, data }]) =>
    Buffer.compare(data.read(), before.graph.initializers.get(name)!.data.read()) === 0 ? [] : [[name, dataType]],
  );
}

describe('recovery after quantization', () => {
  it('brings answers closer and leaves codes, shapes and bytes as they are', async () => {
    const changed = quantize('int2');
    const whole = await recover(changed);
    expect(whole.whole).toBe(true);
    expect(whole.after.klNats!).toBeLessThan(whole.before.klNats! * 0.85);
    const trained = changes(changed, whole.model);
    // Scales and the one bias; no codes, no zero points.
    expect(trained.map(([name]) => name)).toContain('bias');
    expect(trained.filter(([name]) => name.includes('scales')).length).toBeGreaterThan(3);
    expect(trained.every(([, type]) => type === DataType.FLOAT || type === DataType.FLOAT16)).toBe(true);
    const sizes = ({ graph }: Model): [string, number][] =>
      [...graph.initializers].map(([name, { data }]) => [name, data.byteLength]);
    expect(sizes(whole.model)).toEqual(sizes(changed));
    expect(whole.model.graph.nodes).toEqual(changed.graph.nodes);
    // No step is so long that a scale changes its sign or its order of magnitude.
    for (const [name] of trained.filter(([each]) => each.includes('scales'))) {
      const [was, is] = [changed, whole.model].map(({ graph }) => readFloat32(graph.initializers.get(name)!));
      expect(is!.every((value, i) => value === was![i] || Math.abs(value / was![i]! - 1) < 0.5)).toBe(true);
    }

    const blocks = await recover(changed, 0);
    expect(blocks.blocks).toBeGreaterThan(1);
    expect(blocks.after.klNats!).toBeLessThan(blocks.before.klNats!);
  });

  it('trains scales of integer products in steps of their own size', async () => {
    const changed = quantize('int8-dynamic');
    const { model, before, after } = await recover(changed);
    expect(after.klNats!).toBeLessThan(before.klNats!);
    const trained = changes(changed, model);
    expect(trained.some(([name]) => name.includes('scale'))).toBe(true);
    expect(trained.every(([, type]) => type === DataType.FLOAT)).toBe(true);
  });

  it('compares no values that are scaled in the quantized model', () => {
    const model = forwardGraph(original, { inputDims: { x: ['batch', stream] } });
    const ends = (unlike: string[]): string[] =>
      blocksOf(model, { forward: model, result: model }, new Set(unlike)).map(({ to }) => to.name);
    expect(ends([])).toContain('h1');
    expect(ends(['h1'])).toEqual(ends([]).filter((name) => name !== 'h1'));
  });

  it('is a step of a plan that only quantizes', async () => {
    const modelPath = path.join(folder, 'model.onnx');
    writeModel(original, modelPath);
    const opened = openModel(modelPath);
    const phases: string[] = [];
    const report = await fitModel({
      ...{ model: opened.model, modelPath, inputs: opened.inputs, outputPath: path.join(folder, 'judged.onnx') },
      ...{ budgetBytes: 1e9, provider: 'cpu', pins: { batch: 8, dtype: 'int2', pruneRatio: 0 } },
      ...{ dataset: samples(200), runtime, onProgress: ({ phase }) => phases.push(phase) },
      recovery: { mode: 'auto', runtime, memoryBytes: 1e9 },
    });
    const [plain, trained] = report.tried;
    expect(trained).toMatchObject({
      id: `${plain!.id}+recovered`,
      label: `${plain!.label}, trained on samples after quantization`,
    });
    expect(phases.lastIndexOf('recovering')).toBeGreaterThan(phases.indexOf('quantizing'));
    const notes = report.reasons.flatMap((reason) => (reason.kind === 'note' ? [reason.text] : []));
    expect(notes).toContainEqual(
      expect.stringMatching(/^After quantization, scales, biases and .* chose the best step\.$/u),
    );
    expect(report.plan.weights.every(({ dtype }) => dtype !== 'fp32')).toBe(true);
  });
});
