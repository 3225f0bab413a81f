import path from 'node:path';
import * as v from 'valibot';
import { dependencies, version } from '../../../package.json';
import type { AccuracyRun, AccuracyView, Calibration, KnownError, Provider } from '../../contract/types.js';
import { dtypes, providers } from '../../contract/types.js';
import { readOwnFile, withLock, writeAtomically } from '../door/whole-file.js';
import { calibrationRange, recordRange, summarize } from './summary.js';

const keptRuns = 200;
const keptCalibrations = 20;

const name = v.pipe(v.string(), v.maxLength(1024));
const bytes = v.pipe(v.number(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const positive = v.pipe(v.number(), v.minValue(1), v.maxValue(Number.MAX_SAFE_INTEGER));

const runSchema = v.object({
  model: name,
  provider: v.picklist(providers),
  batch: positive,
  dtype: v.picklist(dtypes),
  predictedBytes: positive,
  measuredBytes: positive,
  at: v.number(),
  /** Where and with what it ran: only runs of the same device, runtime and rules speak for an estimate. */
  device: name,
  onnxruntime: name,
  snug: name,
});

const calibrationSchema = v.object({
  device: name,
  driver: v.nullable(name),
  provider: v.picklist(providers),
  onnxruntime: name,
  snug: name,
  at: v.number(),
  fixed: v.object({ loadBytes: bytes, peakBytes: bytes, predictedBytes: bytes }),
  probes: v.pipe(
    v.array(
      v.object({ name, predictedBytes: positive, measuredBytes: positive, lowBytes: bytes, highBytes: positive }),
    ),
    v.minLength(1),
    v.maxLength(32),
  ),
  percent: v.pipe(v.number(), v.minValue(0)),
});

const fileSchema = v.object({
  version: v.literal(1),
  runs: v.pipe(v.array(runSchema), v.maxLength(keptRuns)),
  calibrations: v.pipe(v.array(calibrationSchema), v.maxLength(keptCalibrations)),
});

type Content = v.InferOutput<typeof fileSchema>;

/** The device a figure holds for. */
export interface DeviceKey {
  device: string;
  driver: string | null;
  provider: Provider;
}

export type NewRun = AccuracyRun & { device: string };
export type NewCalibration = Omit<Calibration, 'onnxruntime'>;

/** The record of predictions and the calibrations of this computer. */
export interface AccuracyStore {
  view(): Promise<Omit<AccuracyView, 'calibrating'>>;
  addRuns(runs: readonly NewRun[]): Promise<void>;
  clearRuns(): Promise<void>;
  /** Takes the place of an older calibration of the same device, provider and runtime. */
  addCalibration(calibration: NewCalibration): Promise<void>;
  /** The calibration that holds for this device, driver, runtime and version of Snug. */
  calibrationOf(key: DeviceKey): Promise<Calibration | null>;
  known(key: DeviceKey): Promise<KnownError>;
}

const onnxruntime = dependencies['onnxruntime-node'];

/**
 * Keeps `accuracy.json` in `directory`, or in memory alone without one. Each change reads the file anew, since the
 * command line and the app may both write, and replaces it whole. A file that cannot be understood is put aside; a
 * failing disk never fails the caller.
 */
export function openAccuracy(directory: string | null): AccuracyStore {
  const file = directory === null ? null : path.join(directory, 'accuracy.json');
  let current: Content = { version: 1, runs: [], calibrations: [] };
  let replaceable = true;
  let turn: Promise<void> = Promise.resolve();

  /** What is on disk now; what this process knows where there is no disk. */
  async function read(): Promise<Content> {
    if (file === null) return current;
    const found = await readOwnFile(file, (it) => v.parse(fileSchema, it));
    replaceable = found.replaceable;
    if (found.content !== null) current = found.content;
    return current;
  }

  function change(edit: (content: Content) => Content): Promise<void> {
    const replace = async () => {
      current = edit(await read());
      if (file !== null && replaceable)
        await writeAtomically(file, JSON.stringify(current, null, 2)).catch(() => undefined);
    };
    turn = turn.then(() => (file === null ? replace() : withLock(file, replace)));
    return turn;
  }

  const sameDevice = (key: DeviceKey) => (one: Content['calibrations'][number]) =>
    one.device === key.device && one.driver === key.driver && one.provider === key.provider;
  const ofToday = (one: { onnxruntime: string; snug: string }) =>
    one.onnxruntime === onnxruntime && one.snug === version;
  const calibrationIn = (content: Content, key: DeviceKey): Calibration | null =>
    content.calibrations.filter(ofToday).find(sameDevice(key)) ?? null;

  return {
    async view() {
      await turn;
      const content = await read();
      return {
        runs: content.runs.map(shownRun),
        summary: summarize(content.runs),
        calibrations: content.calibrations.filter(ofToday),
      };
    },
    addRuns(runs) {
      const added = runs
        .map((run) => ({ ...run, model: path.basename(run.model), onnxruntime, snug: version }))
        // One that could not be read back would cost the whole record.
        .filter((run) => v.is(runSchema, run))
        .sort((a, b) => b.at - a.at);
      if (added.length === 0) return Promise.resolve();
      return change((content) => ({ ...content, runs: [...added, ...content.runs].slice(0, keptRuns) }));
    },
    clearRuns: () => change((content) => ({ ...content, runs: [] })),
    addCalibration(calibration) {
      const added = { ...calibration, onnxruntime, snug: version };
      const others = (content: Content) => content.calibrations.filter((one) => !sameDevice(calibration)(one));
      return change((content) => ({
        ...content,
        calibrations: [added, ...others(content)].slice(0, keptCalibrations),
      }));
    },
    async calibrationOf(key) {
      await turn;
      return calibrationIn(await read(), key);
    },
    async known(key) {
      await turn;
      const content = await read();
      const calibration = calibrationIn(content, key);
      const runs = content.runs.filter(
        (run) => ofToday(run) && run.provider === key.provider && run.device === key.device && isTelling(run),
      );
      return { calibration: calibration && calibrationRange(calibration), record: recordRange(runs) };
    },
  };
}

/**
 * Whether a run says something about the share an estimate is off: on a device, levels are read in steps of a
 * megabyte beside everything else it does, so for a small model the ratio is mostly noise. The processor's counters
 * are exact.
 */
function isTelling({ provider, measuredBytes }: AccuracyRun): boolean {
  return provider === 'cpu' || measuredBytes >= 16e6;
}

function shownRun(run: Content['runs'][number]): AccuracyRun {
  const { model, provider, batch, dtype, predictedBytes, measuredBytes, at } = run;
  return { model, provider, batch, dtype, predictedBytes, measuredBytes, at };
}
