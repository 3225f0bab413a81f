import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { SnugError, type ErrorCode } from '../../../src/contract/errors.js';
import type { Provider } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { withholdHalf } from '../../../src/fit/half-device.js';
import { assignDtypes, levelOf } from '../../../src/fit/levels.js';
import { DataType } from '../../../src/onnx/model.js';
import type { Runtime } from '../../../src/runtime/types.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-half-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A computer with these providers, whose device answers a first run with an error or not at all. */
function runtimeOf(providers: Provider[], fails: ErrorCode | null): { runtime: Runtime; opened: string[] } {
  const opened: string[] = [];
  const runtime: Runtime = {
    providers: () => Promise.resolve(providers),
    open: ({ provider }) => {
      opened.push(provider);
      return Promise.resolve({
        ...{ inputs: [], outputs: [] },
        run: () => (fails === null ? Promise.resolve({}) : Promise.reject(new SnugError(fails, 'Cast requires f16'))),
        hold: () => Promise.resolve(),
        store: () => Promise.resolve(),
        close: () => Promise.resolve(),
      });
    },
    measure: () => Promise.reject(new Error('not used here')),
    close: () => Promise.resolve(),
  };
  return { runtime, opened };
}

const analysisOf = (provider: Provider): Analysis =>
  new Analysis(openModel(bundledSamples()[0]!.modelPath).model, provider, false);

describe('withholdHalf', () => {
  it('forbids float16, with the reason, where the device fails at it', async () => {
    const analysis = analysisOf('webgpu');
    expect(analysis.allows('fp16')).toBe(true);
    await withholdHalf(analysis, runtimeOf(['cpu', 'webgpu'], 'E_RUN_FAILED').runtime, folder);
    expect(analysis.allows('fp16')).toBe(false);
    expect(analysis.whyNot('fp16')).toMatch(/does not compute in float16/);
    const { dtypes, reasons } = assignDtypes(analysis, analysis.weights, levelOf('fp16'), {});
    expect([...dtypes.values()].every((dtype) => dtype === 'fp32')).toBe(true);
    expect(reasons.size).toBe(dtypes.size);
    expect(analysis.allows('int8')).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leaves it where the device can, and where the device is not here to be asked', async () => {
    const able = analysisOf('webgpu');
    await withholdHalf(able, runtimeOf(['cpu', 'webgpu'], null).runtime, folder);
    expect(able.allows('fp16')).toBe(true);
    const elsewhere = analysisOf('cuda');
    const { runtime, opened } = runtimeOf(['cpu', 'webgpu'], 'E_RUN_FAILED');
    await withholdHalf(elsewhere, runtime, folder);
    expect(elsewhere.allows('fp16')).toBe(true);
    expect(opened).toEqual([]);
  });

  it('refuses a model that computes in float16 as it is', async () => {
    const analysis = analysisOf('webgpu');
    analysis.model.graph.inputs[0]!.dataType = DataType.FLOAT16;
    await withholdHalf(analysis, runtimeOf(['cpu', 'webgpu'], null).runtime, folder);
    const unable = withholdHalf(analysis, runtimeOf(['cpu', 'webgpu'], 'E_RUN_FAILED').runtime, folder);
    await expect(unable).rejects.toMatchObject({ code: 'E_NOT_SUPPORTED' });
  });

  it('passes on what says nothing about float16', async () => {
    const { runtime } = runtimeOf(['cpu', 'webgpu'], 'E_CANCELLED');
    await expect(withholdHalf(analysisOf('webgpu'), runtime, folder)).rejects.toMatchObject({ code: 'E_CANCELLED' });
  });
});
