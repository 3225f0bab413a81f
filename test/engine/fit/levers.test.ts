import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SessionLevers } from '../../../src/contract/types.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { buildCandidate } from '../../../src/fit/attempt.js';
import { sessionMetadataKey } from '../../../src/fit/session-levers.js';
import { Planner } from '../../../src/fit/solve.js';
import { Workspace } from '../../../src/fit/workspace.js';
import { prepareEstimate } from '../../../src/memory/estimate.js';
import { readModel } from '../../../src/onnx/read.js';
import { writeModel } from '../../../src/onnx/write.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { syntheticFeeds } from '../../../src/runtime/synthetic.js';
import { bertBase, vitB16 } from '../../bench/graphs/index.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-levers-'));
const runtime = createRuntime();
const file = path.join(folder, 'vit.onnx');
const model = vitB16({ scale: 1 / 6, layers: 2 });
const batch = 4;

beforeAll(() => writeModel(model, file));
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

async function measure(modelPath: string, levers: SessionLevers) {
  const session = await runtime.open({ modelPath, provider: 'cpu' });
  const feeds = syntheticFeeds(session.inputs, { batch }, 1);
  await session.close();
  return runtime.measure({ modelPath, provider: 'cpu', levers }, feeds, { warmRuns: 2, batch });
}

/** The plan Snug makes for a model that may stay as it is. */
function planOf(planned: typeof model) {
  const analysis = new Analysis(planned, 'cpu', false);
  const planner = new Planner(analysis);
  const pins = { dtype: 'fp32', pruneRatio: 0, batch } as const;
  const candidate = planner.propose(Number.MAX_SAFE_INTEGER, pins, new Set());
  if (!candidate) throw new Error('no plan');
  const build = (name: string) =>
    buildCandidate(
      {
        analysis,
        runtime,
        workspace: new Workspace(path.join(folder, name, 'model.onnx')),
        outputName: 'model.onnx',
        calibration: null,
        inputs: [],
        pins: {},
        reference: null,
        onProgress: () => undefined,
      },
      planner.structureOf(candidate, pins),
      candidate,
    );
  return { candidate, build };
}

describe('levers of a plan', () => {
  it('the fusion left out takes its scratch with it, as estimated', async () => {
    const prepared = prepareEstimate(model);
    const peaks: number[] = [];
    for (const disabledOptimizers of [[], ['BiasGeluFusion']]) {
      const levers = { memoryPattern: false, disabledOptimizers };
      const measured = await measure(file, levers);
      const estimate = prepared.estimate({ provider: 'cpu', batch, dims: {}, levers });
      expect(Math.abs(estimate.peakBytes / measured.peakBytes - 1)).toBeLessThan(0.02);
      peaks.push(measured.peakBytes);
    }
    expect(peaks[1]).toBeLessThan((peaks[0] ?? 0) * 0.97);
  });

  it('a plan takes the levers that lower the peak, writes them into the file, and measures as estimated', async () => {
    const { candidate, build } = planOf(model);
    expect(candidate.plan.session).toEqual({ memoryPattern: false, disabledOptimizers: ['BiasGeluFusion'] });
    const built = await build('light');
    const output = path.join(built.folder, 'model.onnx');
    expect(JSON.parse(readModel(output).metadata.get(sessionMetadataKey) ?? '')).toEqual(candidate.plan.session);
    const before = await measure(file, { memoryPattern: true });
    const after = await measure(output, candidate.plan.session);
    expect(after.peakBytes).toBeLessThan(before.peakBytes * 0.7);
    expect(Math.abs(candidate.estimate.peakBytes / after.peakBytes - 1)).toBeLessThan(0.02);
  });

  it('large weights go into a file of their own', async () => {
    const { candidate, build } = planOf(bertBase({ scale: 1 / 3, layers: 1 }));
    expect(candidate.plan.externalWeights).toBe(true);
    const built = await build('heavy');
    expect(built.files.map(({ name }) => name).sort()).toEqual(['model.onnx', 'model.onnx.data']);
    expect(planOf(model).candidate.plan.externalWeights).toBe(false);
  });
});
