import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeModel } from '../../../src/onnx/write.js';
import { findClasses, pruneModel } from '../../../src/prune/index.js';
import { inferShapes } from '../../../src/onnx/shape.js';
import { analysisDims } from '../../../src/prune/request.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { architectures } from './architectures.js';
import { runModel, temporaryFolder } from './support.js';

// Machines without a graphics stack have the software driver that Debian's chromium ships.
const software = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_ICD_FILENAMES === undefined && existsSync(software)) process.env.VK_ICD_FILENAMES = software;

/** Software rendering takes ten seconds a model: three families, or all when asked. */
const chosen = /^(U-Net|bidirectional|Attention of)/;
const families = architectures().filter(
  // The runtime's WebGPU form of FusedConv differs from its CPU one on the unpruned model too.
  ({ name }) => name !== 'fused convolutions' && (process.env.SNUG_PROPERTY_RUNS !== undefined || chosen.test(name)),
);

const runtime = createRuntime();
const usable = (await runtime.providers()).includes('webgpu');
const folder = temporaryFolder();
afterAll(async () => {
  await runtime.close();
  folder.remove();
});

describe.skipIf(!usable)('pruned models on WebGPU (needs a WebGPU device)', () => {
  it.each(families)('$name gives what it gives on the CPU', async ({ model, feeds }) => {
    const classes = findClasses(model, inferShapes(model, analysisDims(model)));
    const perClass = Object.fromEntries(classes.map((one) => [one.id, Math.ceil(one.width / 2)]));
    const pruned = (await pruneModel(model, { ratio: 0, perClass, method: 'magnitude' })).model;
    const file = path.join(folder.path, 'webgpu.onnx');
    writeModel(pruned, file, { overwrite: true });
    const expected = await runModel(pruned, feeds, folder.path);
    const session = await runtime.open({ modelPath: file, provider: 'webgpu' });
    const actual = await session.run(feeds);
    await session.close();
    for (const [name, { dims, data }] of Object.entries(expected)) {
      expect(actual[name]!.dims).toEqual(dims);
      const values = actual[name]!.data as Float32Array;
      const apart = (data as Float32Array).map(
        (value, at) => Math.abs(value - values[at]!) / Math.max(1, Math.abs(value)),
      );
      expect(Math.max(...apart)).toBeLessThan(1e-3);
    }
  });
});
