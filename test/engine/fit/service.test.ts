import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EngineService } from '../../../src/app/engine-service.js';
import { createEngineService } from '../../../src/app/service.js';
import type { JobEvent } from '../../../src/contract/types.js';
import { forkRuntime } from '../../../src/runtime/spawn.js';

let folder = '';
let service: EngineService;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-service-'));
});
afterEach(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

function finished(of: EngineService): Promise<JobEvent> {
  return new Promise((resolve) => {
    of.onJobEvent((event) => {
      if (event.kind === 'done' || event.kind === 'failed') resolve(event);
    });
  });
}

describe.each([
  ['engine processes start the runtime', {}],
  // As in Electron, where only the main process may start processes.
  ['the door starts the runtime for them', { relayRuntimes: true, spawnRuntime: forkRuntime }],
])('the engine service: %s', (_title, options) => {
  it('opens, plans, fits and keeps the report', async () => {
    service = createEngineService(options);
    const model = await service.openSample('digits-mlp');
    expect(model).toMatchObject({ data: { samples: 100 }, summary: { parameters: 167_178 } });
    const request = { modelId: model.modelId, budgetBytes: 387_000, pins: { provider: 'cpu' as const, batch: 32 } };
    const view = await service.plan(request);
    expect(view.baseline.verdict).toBe('does-not-fit');
    expect(view.proposal?.verdict).toBe('fits');
    const end = finished(service);
    const { jobId } = await service.startFit(request, folder);
    expect(await end).toMatchObject({ kind: 'done', jobId, report: { fits: true } });
    expect(service.outputOf(jobId)?.path).toBe(path.join(folder, 'digits-mlp.snug.onnx'));
    expect(service.reportHtml(jobId)).toContain('digits-mlp.onnx');
    expect(readdirSync(folder)).toEqual(['digits-mlp.snug.onnx']);
  });

  it('stops a job and leaves the folder empty', async () => {
    service = createEngineService(options);
    const model = await service.openSample('digits-mlp');
    const end = finished(service);
    const started = new Promise<void>((resolve) => service.onJobEvent(() => resolve()));
    const { jobId } = await service.startFit(
      { modelId: model.modelId, budgetBytes: 387_000, pins: { provider: 'cpu', batch: 32 } },
      folder,
    );
    await started;
    expect(await service.cancel(jobId)).toEqual({ kept: null });
    expect(await end).toMatchObject({ kind: 'failed', error: { code: 'E_CANCELLED' } });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('tells what is wrong with a file and goes on', async () => {
    service = createEngineService(options);
    await expect(service.open(path.join(folder, 'none.onnx'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    await expect(service.plan({ modelId: 'x', budgetBytes: 1, pins: {} })).rejects.toMatchObject({
      code: 'E_NOT_FOUND',
    });
    expect((await service.openSample('digits-mlp')).summary.name).toBe('digits-mlp.onnx');
  });
});
