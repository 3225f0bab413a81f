import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import { quantizeFile } from '../../../src/app/shrink.js';
import { SnugError } from '../../../src/contract/errors.js';
import { trainingStopped } from '../../../src/fit/quantize-step.js';
import { timeUsedUp, type TimedRecovery } from '../../../src/fit/recover-candidate.js';
import { getInt } from '../../../src/onnx/graph.js';
import { readModel } from '../../../src/onnx/read.js';
import { writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, listDataset, node, operators, weight } from '../quantize/build.js';
import { residualModel, sampler } from '../fit/recover-models.js';
import { gaussian } from '../quantize/numbers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-quantize-'));
const runtime = createRuntime();
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The first convolution reads three channels: too few for blocks of 4 bits. */
const network = buildModel({
  inputs: { x: [1, 3, 8, 8] },
  outputs: ['y'],
  nodes: [
    node('Conv', ['x', 'thin'], 'a'),
    node('Relu', ['a'], 'b'),
    node('Conv', ['b', 'wide'], 'c'),
    node('GlobalAveragePool', ['c'], 'd'),
    node('Flatten', ['d'], 'f'),
    node('Gemm', ['f', 'head'], 'y'),
  ],
  weights: [
    weight('thin', [32, 3, 3, 3], gaussian(864, 1)),
    weight('wide', [48, 32, 3, 3], gaussian(48 * 288, 2)),
    weight('head', [48, 64], gaussian(48 * 64, 3)),
  ],
  opset: 21,
});

describe('quantizeFile with samples', () => {
  describe('and training after it', () => {
    const file = path.join(folder, 'product.onnx');
    writeModel(residualModel({ stream: 32, bias: 0.1 }), file);
    const recovery: TimedRecovery = { mode: 'auto', runtime, memoryBytes: 1e9, seconds: 20 };
    const request = {
      ...{ opened: openModel(file), dataset: sampler(9, 32)(150), dims: {}, runtime, overwrite: true },
      dtype: 'int2' as const,
      provider: 'cpu' as const,
      onProgress: () => undefined,
      signal: new AbortController().signal,
    };
    const plainPath = path.join(folder, 'plain.onnx');
    // Named as a temporary file might be.
    const outputPath = path.join(folder, 'quantized.onnx');

    it('trains what lies around the codes, at the same size, whatever the output is called', async () => {
      const plain = await quantizeFile({ ...request, outputPath: plainPath });
      expect(plain.notes).toEqual([]);
      const trained = await quantizeFile({ ...request, recovery, outputPath });
      expect(trained.notes).toContainEqual(
        expect.stringMatching(/^After quantization, scales, biases and .* chose the best step\.$/u),
      );
      expect(trained.after.weightBytes).toBe(plain.after.weightBytes);
    });

    it('quantizes on all samples where nothing was trained: no time, no harm, no memory', async () => {
      const full = () =>
        Promise.reject(
          new SnugError('E_OUT_OF_MEMORY', 'Memory ran out while the model ran.', { action: 'Free some.' }),
        );
      const cases = [
        ['int2', { ...recovery, seconds: 0 }, timeUsedUp],
        ['int8', recovery, 'Nothing was trained after quantization: the answers are close to the original’s already.'],
        [
          'int2',
          { ...recovery, runtime: { open: full } as Partial<Runtime> as typeof recovery.runtime },
          'Training after quantization failed, so it was left out: Memory ran out while the model ran.',
        ],
      ] as const;
      for (const [dtype, given, note] of cases) {
        await quantizeFile({ ...request, dtype, outputPath: plainPath });
        const { notes } = await quantizeFile({ ...request, dtype, recovery: given, outputPath });
        expect(notes).toContain(note);
        expect(readFileSync(outputPath).equals(readFileSync(plainPath))).toBe(true);
      }
    });

    it('writes what was quantized when the training is stopped', async () => {
      const stop = new AbortController();
      const { notes } = await quantizeFile({
        ...{ ...request, recovery, outputPath, signal: stop.signal },
        onProgress: ({ phase }) => phase === 'recovering' && stop.abort(),
      });
      expect(notes).toContain(trainingStopped);
      expect(operators(readModel(outputPath))).toContain('MatMulNBits');
    });
  });

  it('int4: a weight without a form in 4 bits has 8 bits, and activations stay float', async () => {
    const file = path.join(folder, 'network.onnx');
    writeModel(network, file);
    const opened = openModel(file);
    const dataset = listDataset(
      Array.from({ length: 4 }, (_, i) => ({ x: { dims: [1, 3, 8, 8], data: gaussian(192, 10 + i) } })),
    );
    for (const uniform of [true, false]) {
      const outputPath = path.join(folder, `uniform-${uniform}.onnx`);
      const { weights } = await quantizeFile({
        ...{
          opened,
          outputPath,
          dataset,
          dims: {},
          runtime,
          overwrite: false,
          dtype: 'int4',
          provider: 'cpu',
          uniform,
        },
        onProgress: () => undefined,
        signal: new AbortController().signal,
      });
      const formats = weights.map(({ dtype }) => dtype);
      expect(formats).toContain('int4');
      expect(formats).not.toContain('int8-static');
      const why = expect.stringContaining('too few input channels') as string;
      expect(weights.find(({ name }) => name === 'thin')).toMatchObject({ dtype: 'int8', reason: why });
      expect(operators(readModel(outputPath))).not.toContain('QuantizeLinear');
    }
  });
});

it('gives every weight the block size asked for', async () => {
  const file = path.join(folder, 'blocks.onnx');
  writeModel(network, file);
  for (const dtype of ['int8', 'int4'] as const) {
    const outputPath = path.join(folder, `blocks-${dtype}.onnx`);
    const request = { opened: openModel(file), outputPath, dataset: null, dims: {}, runtime, overwrite: false, dtype };
    const { signal } = new AbortController();
    const chosen = { provider: 'cpu', blockSize: 16, onProgress: () => undefined, signal } as const;
    const { weights } = await quantizeFile({ ...request, ...chosen });
    expect(weights.map(({ blockSize }) => blockSize)).toEqual([16, 16, 16]);
    const { nodes } = readModel(outputPath).graph;
    const product = nodes.find(({ opType }) => opType === 'MatMulNBits')!;
    expect(getInt(product, 'block_size', 0)).toBe(16);
  }
});

it('refuses a model that has nothing to quantize, and writes nothing', async () => {
  const file = path.join(folder, 'bare.onnx');
  const nodes = [node('Add', ['x', 'b'], 'y')];
  writeModel(
    buildModel({ inputs: { x: [1, 8] }, outputs: ['y'], nodes, weights: [weight('b', [8], gaussian(8, 1))] }),
    file,
  );
  const outputPath = path.join(folder, 'bare-int8.onnx');
  const request = { opened: openModel(file), outputPath, dataset: null, dims: {}, runtime, overwrite: false };
  const { signal } = new AbortController();
  await expect(
    quantizeFile({ ...request, dtype: 'int8', provider: 'cpu', onProgress: () => undefined, signal }),
  ).rejects.toMatchObject({ code: 'E_NOT_SUPPORTED' });
  expect(existsSync(outputPath)).toBe(false);
});
