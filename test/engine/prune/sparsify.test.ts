import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { sparsifyModel, type SparsityPattern } from '../../../src/prune/index.js';
import { digitsAccuracy, imageDataset, inProcessRuntime, modelsFolder, temporaryFolder } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

describe.skipIf(!existsSync(modelsFolder))('sparsity on a trained model (needs the sample models)', () => {
  const model = () => readModel(path.join(modelsFolder, 'digits-mlp.onnx'));
  const samples = () => ({
    runtime: inProcessRuntime,
    dataset: imageDataset(path.join(modelsFolder, 'digits-calibration.npy')),
    workDirectory: folder.path,
  });
  const half: SparsityPattern = { kind: 'unstructured', share: 0.7 };
  const twoOfFour: SparsityPattern = { kind: 'n:m', n: 2, m: 4 };

  it.each([
    { name: 'a share', pattern: half, zeros: 0.7 },
    { name: '2:4', pattern: twoOfFour, zeros: 0.5 },
  ])('$name: writes the zeros it says and keeps the accuracy', async ({ pattern, zeros }) => {
    const dense = model();
    const result = await sparsifyModel(dense, { pattern, samples: samples() });
    const sparse = result.weights.filter((weight) => weight.zeros > 0);
    expect(sparse.length).toBeGreaterThan(1);
    for (const weight of sparse) {
      const values = readFloat32(result.model.graph.initializers.get(weight.name)!);
      expect(values.filter((value) => value === 0).length).toBeGreaterThanOrEqual(weight.zeros);
      expect(weight.zeros / weight.elements).toBeCloseTo(zeros, 2);
      expect(weight.heldOutError!).toBeLessThan(0.2);
    }
    expect(result.sqnrDb!).toBeGreaterThan(8);
    expect(await digitsAccuracy(result.model, folder.path)).toBeGreaterThan(
      (await digitsAccuracy(dense, folder.path)) * 0.96,
    );
  });

  it('2:4 leaves at most two of four neighbours along the input of every output', async () => {
    const { model: sparse, weights } = await sparsifyModel(model(), { pattern: twoOfFour });
    const gemm = sparse.graph.nodes.find((node) => node.opType === 'Gemm' && node.inputs[1] === weights[0]!.name)!;
    const tensor = sparse.graph.initializers.get(gemm.inputs[1]!)!;
    expect(gemm.attributes.get('transB')).toMatchObject({ value: 1 });
    const values = readFloat32(tensor);
    for (let at = 0; at < values.length; at += 4) {
      expect(values.subarray(at, at + 4).filter((value) => value !== 0).length).toBeLessThanOrEqual(2);
    }
  });

  it('refuses a pattern that is none', async () => {
    await expect(sparsifyModel(model(), { pattern: { kind: 'n:m', n: 4, m: 4 } })).rejects.toMatchObject({
      code: 'E_BAD_REQUEST',
    });
  });
});
