import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { prepareEstimate } from '../../../src/memory/estimate.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { graphOf, modelOf, value } from '../../unit/onnx/build.js';

// Machines without a graphics stack have the software driver that Debian's chromium ships.
const software = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_ICD_FILENAMES === undefined && existsSync(software)) process.env.VK_ICD_FILENAMES = software;

const runtime = createRuntime();
const usable = (await runtime.providers()).includes('webgpu');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-cpu-nodes-'));
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(!usable)('nodes left to the CPU (needs webgpu)', () => {
  it('keep their weights out of the GPU’s memory, and the answers', async () => {
    const rows = Float32Array.from({ length: 100_000 * 64 }, (_, i) => ((i * 7) % 101) / 101);
    const model = modelOf(
      graphOf({
        nodes: [
          makeNode('Gather', ['table', 'ids'], ['x'], undefined, { name: 'rows' }),
          makeNode('MatMul', ['x', 'w'], ['y'], undefined, { name: 'product' }),
        ],
        inputs: [value('ids', ['batch', 8], DataType.INT64)],
        outputs: [value('y', ['batch', 8, 16])],
        initializers: [float32Tensor('table', [100_000, 64], rows), float32Tensor('w', [64, 16], rows.slice(0, 1024))],
      }),
    );
    const modelPath = path.join(folder, 'table.onnx');
    writeModel(model, modelPath);
    const ids = {
      dtype: 'int64' as const,
      dims: [1, 8],
      data: BigInt64Array.from([0n, 5n, 9n, 99_999n, 1n, 2n, 3n, 4n]),
    };
    const run = async (cpuNodes: string[]) => {
      const spec = { modelPath, provider: 'webgpu' as const, levers: { memoryPattern: false, cpuNodes } };
      const measured = await runtime.measure(spec, { ids }, { warmRuns: 1, batch: 1 });
      const session = await runtime.open(spec);
      const { y } = await session.run({ ids });
      await session.close();
      const options = { provider: 'webgpu', batch: 1, dims: {}, levers: spec.levers } as const;
      return { measured, y: Array.from(y?.data as Float32Array), estimate: prepareEstimate(model).estimate(options) };
    };
    const whole = await run([]);
    const spilled = await run(['rows']);
    expect(whole.measured.placement['WebGpuExecutionProvider']).toBe(2);
    expect(spilled.measured.placement['CPUExecutionProvider']).toBe(1);
    for (const [index, expected] of whole.y.entries()) expect(spilled.y[index]).toBeCloseTo(expected, 3);
    const tableBytes = rows.byteLength;
    expect(whole.estimate.warm.peakBytes - spilled.estimate.warm.peakBytes).toBeGreaterThan(0.9 * tableBytes);
  });
});
