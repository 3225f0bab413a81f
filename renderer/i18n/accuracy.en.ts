import type { Provider } from '../../src/contract/types.js';
import type { Formats } from './format.js';
import { items } from './plural.en.js';

/** How sure estimates are, how right they were here, and memory while a model runs. */
export const accuracyEn = ({ bytes, bytesPair, clock, count, decimal }: Formats) => {
  const off = (percent: number): string => `${decimal(percent, percent >= 0.05 && percent < 9.95 ? 1 : 0)}%`;
  const rules: Record<Provider, string> = {
    cpu: 'ONNX Runtime’s own planning is replayed step by step: which buffers share a place, what its arena keeps, which weights it packs.',
    cuda: 'On CUDA memory is taken from the driver in growing blocks and kept; weights and activations are counted as those blocks.',
    dml: 'DirectML keeps freed buffers in sizes of powers of two; activations are counted at those sizes.',
    webgpu: 'WebGPU keeps freed buffers in a few fixed sizes; activations are counted at those sizes, weights exactly.',
    coreml: 'Core ML does not tell how it plans memory; weights and activations are counted at their own size.',
  };
  return {
    title: 'How right Snug has been here',
    summary: (runs: number, median: number, worst: number): string =>
      runs === 1
        ? `On this machine: 1 run, off by ${off(worst)}.`
        : `On this machine: ${items(runs, 'run', 'runs')}, median error ${off(median)}, worst ${off(worst)}.`,
    none: 'No model has run here yet. Each run adds what was predicted and what was measured.',
    list: 'Show the runs',
    columns: {
      model: 'Model',
      where: 'Runs on',
      batch: 'Batch',
      format: 'Format',
      predicted: 'Predicted',
      measured: 'Measured',
      off: 'Off by',
      when: 'When',
    },
    offBy: (percent: number): string =>
      Math.abs(percent) < 0.05 ? off(0) : percent > 0 ? `+${off(percent)}` : `−${off(-percent)}`,
    private: 'Kept on this computer only: names and numbers, no files and no folders.',
    clear: 'Clear the record',
    clearSure: (runs: number): string => `Forget ${items(runs, 'run', 'runs')}?`,
    clearYes: 'Clear',
    clearNo: 'Keep',
    cleared: 'The record was cleared.',

    calibrated: (where: string, date: string, percent: number): string =>
      `Calibrated for ${where} on ${date}: estimates within ±${off(percent)}`,
    notCalibrated: (where: string): string =>
      `Not calibrated for ${where} yet; Snug does it by itself after your first plan.`,
    calibrating: (where: string): string => `Calibrating for ${where}: running three small test models…`,
    calibrationDone: (percent: number): string => `Calibrated. Estimates are within ±${off(percent)} here.`,
    calibrationFound: 'What the test models showed',
    calibrationFor: (device: string, driver: string | null, runtime: string): string =>
      `Holds for ${device}${driver === null ? '' : `, driver ${driver}`}, ONNX Runtime ${runtime}.`,
    probe: 'Test model',
    probes: {
      'dense layers': 'Dense layers',
      'feature maps': 'Feature maps',
      attention: 'Attention',
    } as Record<string, string>,
    probeNone: 'A session of one step',
    calibrationFailed: (reason: string): string => `Calibration did not work on this device: ${reason.toLowerCase()}.`,
    calibrationStopped: 'Calibration stopped. Estimates keep the interval they had.',
    calibrate: 'Calibrate now',
    calibrateAgain: 'Calibrate again',
    stop: 'Stop',

    interval: {
      rule: (low: number, high: number): string =>
        `The estimate is sure of ${bytes(low)} to ${bytes(high)}: a general rule, not yet tested on this machine.`,
      calibration: (low: number, high: number, percent: number, runs: number): string =>
        `The estimate is sure of ${bytes(low)} to ${bytes(high)} (within ${off(percent)}), learned from ${items(runs, 'test model', 'test models')} on this machine.`,
      record: (low: number, high: number, percent: number, runs: number): string =>
        `The estimate is sure of ${bytes(low)} to ${bytes(high)} (within ${off(percent)}), as far as ${items(runs, 'run', 'runs')} on this machine have been off.`,
    },

    worked: {
      title: 'How we worked this out',
      parts: 'Part',
      load: 'Loading',
      cold: 'First run',
      warm: 'Later runs',
      total: 'Together',
      largestCounts: (phase: string): string => `The largest of the three counts: ${phase.toLowerCase()}.`,
      assumptions: 'What it rests on',
      batch: (batch: number): string => `Batch ${count(batch)}.`,
      dims: (list: { name: string; value: number }[]): string =>
        `Sizes used: ${list.map((each) => `${each.name} = ${count(each.value)}`).join(', ')}.`,
      rules,
      unknown: 'Could not be worked out',
      unknownMore: (n: number): string => `and ${items(n, 'more value', 'more values')}.`,
      limits: 'Limits of the device',
    },

    live: {
      title: (node: string): string => `In memory at ${node}`,
      atPeak: 'the highest point',
      step: 'Step of the run',
      stepText: (index: number, total: number, node: string, size: number): string =>
        `Step ${count(index)} of ${count(total)}: ${node}, ${bytes(size)}`,
      weights: 'weights',
      others: 'smaller values, rounding',
    },

    gauge: {
      title: 'Memory while it runs',
      nothing: 'No model is running yet.',
      between: 'No model is running at the moment.',
      highest: (size: number): string => `highest so far ${bytes(size)}`,
      device: (used: number, total: number): string => `whole device ${bytesPair(used, total).join(' of ')}`,
      label: (used: number, highest: number, budget: number): string =>
        `Memory of the running model: ${bytes(used)} now, ${bytes(highest)} at most so far, budget ${bytes(budget)}.`,
      help: 'What the process that runs the model holds above its own start. Its working room and what it keeps for the next run count too, often more than a small model itself; whether the model fits is told by the measured peak.',
    },

    trace: {
      title: 'Memory while it ran',
      label: (highest: number, atMs: number, samples: number, budget: number): string =>
        `Memory while the job ran, ${items(samples, 'sample', 'samples')}: ${bytes(highest)} at most, ${clock(atMs)} after the start; budget ${bytes(budget)}.`,
      axis: 'Time since the start',
      predicted: 'Predicted, step by step',
      columns: { time: 'Time', used: 'Model', device: 'Whole device' },
    },
  };
};
