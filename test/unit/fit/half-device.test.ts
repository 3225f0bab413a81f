import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { SnugError, type ErrorCode } from '../../../src/contract/errors.js';
import type { Provider } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { holdsHalf, withholdHalf } from '../../../src/fit/half-device.js';
import { assignDtypes, levelOf } from '../../../src/fit/levels.js';
import { intAttribute, tensorAttribute } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Node } from '../../../src/onnx/model.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, node } from '../../engine/quantize/build.js';

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
        holdFile: () => Promise.resolve(),
        runProducts: () => Promise.reject(new Error('not used here')),
        storeProducts: () => Promise.reject(new Error('not used here')),
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

describe('holdsHalf', () => {
  const half = rawTensor('h', DataType.FLOAT16, [4], new Uint8Array(8));
  const add = node('Add', ['x', 'wide'], 'y');
  const cast = (to: number): Node => node('Cast', ['h'], 'wide', { to: intAttribute(to) });
  const held = node('Constant', [], 'h', { value: tensorAttribute(half) });
  const modelOf = (nodes: Node[], weights = [half]): Model =>
    buildModel({ inputs: { x: [4] }, outputs: ['y'], nodes, weights });

  it('counts constants that are read in float16, in Constant nodes too', () => {
    expect(holdsHalf(modelOf([node('Add', ['x', 'h'], 'y')]))).toBe(true);
    expect(holdsHalf(modelOf([held, node('Add', ['x', 'h'], 'y')], []))).toBe(true);
  });

  it('does not count what is only stored in float16', () => {
    expect(holdsHalf(modelOf([cast(DataType.FLOAT), add]))).toBe(false);
    expect(holdsHalf(modelOf([held, cast(DataType.FLOAT), add], []))).toBe(false);
    expect(holdsHalf(modelOf([cast(DataType.FLOAT), node('Add', ['h', 'wide'], 'y')]))).toBe(true);
    const source = openModel(bundledSamples()[0]!.modelPath).model;
    const formats = new Map(quantizableWeights(source, 'cpu').map(({ name }) => [name, 'int4' as const]));
    const { model } = quantizeModel(source, formats, { provider: 'cpu' });
    expect([...model.graph.initializers.values()].some(({ dataType }) => dataType === DataType.FLOAT16)).toBe(true);
    expect(holdsHalf(model)).toBe(false);
  });
});

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
