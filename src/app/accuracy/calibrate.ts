import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Provider } from '../../contract/types.js';
import { estimateMemory } from '../../memory/estimate.js';
import type { ValueInfo } from '../../onnx/model.js';
import { writeModel } from '../../onnx/write.js';
import { syntheticFeeds } from '../../runtime/synthetic.js';
import type { Runtime } from '../../runtime/types.js';
import { oneNode, probes, type Probe } from './probes.js';
import type { NewCalibration } from './store.js';
import { calibrationPercent } from './summary.js';

/** What a calibration run finds out, before it is known which device it was. */
export type CalibrationResult = Pick<NewCalibration, 'fixed' | 'probes' | 'percent'>;

/** The later runs of a probe; memory is the same in each of them. */
const warmRuns = 2;

/** The same for both sides: the probe is run with the runtime's own defaults. */
const levers = { memoryPattern: true };

/**
 * Runs the built-in graphs on a provider and compares their peaks with the estimate. Takes a few seconds and writes
 * to the folder for temporary files only.
 *
 * @param onProbe told how many of all graphs are done before each of them
 * @throws SnugError of the runtime; `E_CANCELLED` when its signal aborts
 */
export async function calibrate(
  runtime: Runtime,
  provider: Provider,
  onProbe: (done: number, total: number, name: string) => void = () => undefined,
): Promise<CalibrationResult> {
  const folder = mkdtempSync(path.join(tmpdir(), 'snug-calibrate-'));
  const rest = probes();
  const total = rest.length + 1;
  try {
    const first = oneNode();
    onProbe(0, total, first.name);
    const one = await run(runtime, provider, first, folder);
    const fixed = {
      loadBytes: one.loadBytes,
      peakBytes: one.measuredBytes,
      predictedBytes: one.predictedBytes,
    };
    const found: CalibrationResult['probes'] = [];
    for (const probe of rest) {
      onProbe(found.length + 1, total, probe.name);
      const { predictedBytes, measuredBytes, lowBytes, highBytes } = await run(runtime, provider, probe, folder);
      // A device that shows nothing of the run teaches nothing.
      if (measuredBytes > 0) found.push({ name: probe.name, predictedBytes, measuredBytes, lowBytes, highBytes });
    }
    return { fixed, probes: found, percent: calibrationPercent({ fixed, probes: found }) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(
  runtime: Runtime,
  provider: Provider,
  { name, model }: Probe,
  folder: string,
): Promise<{
  loadBytes: number;
  predictedBytes: number;
  measuredBytes: number;
  lowBytes: number;
  highBytes: number;
}> {
  const modelPath = path.join(folder, `${name.replaceAll(' ', '-')}.onnx`);
  writeModel(model, modelPath);
  const batch = fixedBatch(model.graph.inputs);
  const estimate = estimateMemory(model, { provider, batch, dims: {}, levers });
  const inputs = model.graph.inputs.map(({ name: input, dims }) => ({
    name: input,
    dtype: 'float32',
    dims: (dims ?? []).map((dim) => Number(dim)),
  }));
  const feeds = syntheticFeeds(inputs, {}, 7);
  const measured = await runtime.measure({ modelPath, provider, levers }, feeds, { warmRuns, batch });
  return {
    loadBytes: measured.load ?? measured.peakBytes,
    predictedBytes: estimate.peakBytes,
    measuredBytes: measured.peakBytes,
    lowBytes: estimate.lowBytes,
    highBytes: estimate.highBytes,
  };
}

function fixedBatch(inputs: readonly ValueInfo[]): number {
  const first = inputs[0]?.dims?.[0];
  return typeof first === 'number' ? first : 1;
}
