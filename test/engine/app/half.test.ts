import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { createEngineService } from '../../../src/app/service.js';
import { computesHalf } from '../../../src/fit/half-device.js';
import { createRuntime } from '../../../src/runtime/client.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-half-'));
const service = createEngineService();
afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

it('offers float16 on WebGPU exactly where the device computes in it, and says why not', async () => {
  const runtime = createRuntime();
  const half = await computesHalf(runtime, 'webgpu', folder).finally(() => runtime.close());
  const { modelId } = await service.openSample('digits-mlp');
  const rowOn = async (provider: 'webgpu' | 'cpu') =>
    (await service.plan({ modelId, budgetBytes: 1e9, pins: { provider } })).charts.dtypes.find(
      ({ dtype }) => dtype === 'fp16',
    );
  const row = await rowOn('webgpu');
  expect(row?.allowed).toBe(half);
  if (!half) expect(row?.note).toMatch(/does not compute in float16/u);
  expect((await rowOn('cpu'))?.note).toMatch(/CPU computes float16 in float32/u);
});
