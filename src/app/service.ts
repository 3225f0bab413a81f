import type { OpenModel, SampleModel } from '../contract/api.js';
import { SnugError } from '../contract/errors.js';
import type {
  TrainingFileRole,
  TrainingPlan,
  TrainingReport,
  TrainingRequest,
  TrainingSetup,
} from '../contract/training.js';
import type { BatchSweep } from '../contract/throughput.js';
import type {
  AccuracyView,
  FitReport,
  HardwareReading,
  JobEvent,
  PlanRequest,
  PlanView,
  Provider,
  PruneCurve,
} from '../contract/types.js';
import { forkProcess, forkRuntime } from '../runtime/spawn.js';
import type { EngineService, EngineServiceOptions } from './engine-service.js';
import { Calibrator } from './accuracy/calibrator.js';
import { runsOfReport } from './accuracy/runs.js';
import { openAccuracy, type AccuracyStore } from './accuracy/store.js';
import { Devices } from './devices.js';
import { EngineClient, type EngineListeners } from './engine-client.js';
import { FitJobs } from './fit-jobs.js';
import { Measuring } from './measuring.js';
import { OpenModels, type HeldModel } from './open-models.js';
import { Trace } from './trace.js';
import { reportHtml } from './report-html.js';
import { bundledSamples } from './samples.js';
import { TrainingJobs } from './training-jobs.js';
import { TrainingStore } from './training-store.js';

export function createEngineService(options: EngineServiceOptions = {}): EngineService {
  return new LocalEngineService(options);
}

/** What measurements of pruning rest on. */
const samplesOf = ({ dataPath }: HeldModel): string => dataPath ?? '';

class LocalEngineService implements EngineService {
  private readonly listeners = new Set<(event: JobEvent) => void>();
  private readonly devices: Devices;
  private readonly record: AccuracyStore;
  private readonly calibrator: Calibrator;
  private readonly models: OpenModels;
  private readonly fits: FitJobs;
  private readonly trainings: TrainingJobs;
  private readonly pruning: Measuring<PruneCurve>;
  private readonly batches: Measuring<BatchSweep>;

  constructor(private readonly options: EngineServiceOptions) {
    const startEngine = (listeners?: EngineListeners): EngineClient => this.engine(listeners);
    const emit = (event: JobEvent): void => this.emit(event);
    const trace = (jobId: string, provider: Provider, engine: EngineClient): Promise<Trace> =>
      this.trace(jobId, provider, engine);
    this.devices = new Devices(options.spawnRuntime);
    this.record = options.accuracy ?? openAccuracy(null);
    this.calibrator = new Calibrator({
      store: this.record,
      startEngine,
      keyOf: (provider) => this.devices.keyOf(provider),
      busy: () => [this.pruning, this.batches, this.fits, this.trainings].some(({ running }) => running),
      onChange: () => void this.tellAccuracy('calibration'),
    });
    this.models = new OpenModels({ startEngine, onClose: (modelId) => this.forget(modelId) });
    this.fits = new FitJobs({ startEngine, emit, trace, onReport: (jobId, report) => this.learn(jobId, report) });
    this.trainings = new TrainingJobs({
      startEngine,
      emit,
      trace,
      store: options.trainings ?? new TrainingStore(null),
    });
    this.pruning = new Measuring({
      startEngine: (onCurve) => this.engine({ onCurve }),
      onPart: (modelId, curve) => emit({ jobId: modelId, kind: 'pruning', curve }),
    });
    this.batches = new Measuring({
      startEngine: (onSweep) => this.engine({ onSweep }),
      onPart: (modelId, sweep) => emit({ jobId: modelId, kind: 'batches', sweep }),
    });
  }

  private engine(listeners: EngineListeners = {}): EngineClient {
    const { spawnEngine, spawnRuntime, relayRuntimes } = this.options;
    return new EngineClient({
      spawn: spawnEngine ?? forkProcess,
      ...(relayRuntimes ? { spawnRuntime: spawnRuntime ?? forkRuntime } : {}),
      ...listeners,
    });
  }

  private async trace(jobId: string, provider: Provider, engine: EngineClient): Promise<Trace> {
    return new Trace({
      gpu: await this.devices.of(provider),
      provider,
      runtimes: () => engine.runtimes,
      onSample: (sample) => this.emit({ jobId, kind: 'memory', sample }),
    });
  }

  /** Two models measured side by side would spoil both figures; the calibration comes back by itself. */
  private async quiet(): Promise<void> {
    await this.calibrator.stop();
    this.pruning.stopAll();
    this.batches.stopAll();
  }

  private forget(modelId: string): void {
    this.pruning.forget(modelId);
    this.batches.forget(modelId);
    this.trainings.forget(modelId);
  }

  async hardware(): Promise<HardwareReading> {
    const reading = await this.devices.read();
    // The first plan will ask, by when the device has had the time of choosing a model to answer; what goes wrong is no news.
    void this.devices.warmUp().catch(() => undefined);
    return reading;
  }

  async accuracy(): Promise<AccuracyView> {
    return { ...(await this.record.view()), calibrating: this.calibrator.provider };
  }

  async clearAccuracy(): Promise<AccuracyView> {
    await this.record.clearRuns();
    return this.accuracy();
  }

  async calibrate(provider: Provider): Promise<AccuracyView> {
    await this.calibrator.run(provider);
    return this.accuracy();
  }

  stopCalibration(): Promise<void> {
    return this.calibrator.stop();
  }

  private async tellAccuracy(jobId: string): Promise<void> {
    this.emit({ jobId, kind: 'accuracy', accuracy: await this.accuracy() });
  }

  samples(): SampleModel[] {
    return bundledSamples().map(({ id, name, fileBytes, dataPath }) => ({
      id,
      name,
      fileBytes,
      hasData: dataPath !== null,
    }));
  }

  open(modelPath: string): Promise<OpenModel> {
    return this.models.open(modelPath);
  }

  async openSample(id: string): Promise<OpenModel> {
    const sample = bundledSamples().find((s) => s.id === id);
    if (!sample) throw new SnugError('E_NOT_FOUND', 'This sample is not part of this installation.');
    const opened = await this.open(sample.modelPath);
    return sample.dataPath === null ? opened : this.attachData(opened.modelId, sample.dataPath);
  }

  attachData(modelId: string, dataPath: string): Promise<OpenModel> {
    this.pruning.forget(modelId);
    this.batches.forget(modelId);
    return this.models.attachData(modelId, dataPath);
  }

  attachLabels(modelId: string, labelsPath: string): Promise<OpenModel> {
    return this.models.attachLabels(modelId, labelsPath);
  }

  async plan(request: PlanRequest): Promise<PlanView> {
    const { modelId, budgetBytes, pins } = request;
    const model = this.models.get(modelId);
    const provider = await this.devices.providerOf(pins.provider);
    const known = await this.record.known(await this.devices.keyOf(provider));
    const curve = this.pruning.partOf(modelId, samplesOf(model));
    const sweep = this.batches.partOf(modelId, sweepBasis(model, provider, pins.dims));
    const half = await this.devices.computesHalf(provider);
    const view = await model.engine.ask({ kind: 'plan', budgetBytes, provider, pins, known, curve, sweep, half });
    if (this.options.autoCalibrate) this.calibrator.soon(provider);
    return view;
  }

  async measurePruning(modelId: string): Promise<void> {
    const { path, dataPath } = this.models.get(modelId);
    if (dataPath === null) {
      throw new SnugError('E_USAGE', 'What pruning does to the answers is measured on samples.', {
        action: 'Attach samples first.',
      });
    }
    this.batches.stopAll();
    const empty: PruneCurve = { points: [], fitted: false, samples: 0, state: 'measuring', total: 0 };
    this.pruning.start(modelId, dataPath, empty, (engine) => engine.ask({ kind: 'prune-curve', path, dataPath }));
    await Promise.resolve();
  }

  stopMeasuringPruning(modelId: string): Promise<void> {
    this.pruning.stop(modelId);
    return Promise.resolve();
  }

  async measureBatches({ modelId, pins }: PlanRequest): Promise<void> {
    const model = this.models.get(modelId);
    const { path, dataPath } = model;
    const provider = await this.devices.providerOf(pins.provider);
    const dims = pins.dims ?? {};
    await this.calibrator.stop();
    this.pruning.stopAll();
    const empty: BatchSweep = { provider, points: [], state: 'measuring', total: 0 };
    this.batches.start(modelId, sweepBasis(model, provider, dims), empty, (engine) =>
      engine.ask({ kind: 'batch-sweep', path, dataPath, provider, dims }),
    );
  }

  stopMeasuringBatches(modelId: string): Promise<void> {
    this.batches.stop(modelId);
    return Promise.resolve();
  }

  trainingSetup(modelId: string): Promise<TrainingSetup> {
    return this.trainings.setup(modelId, this.models.get(modelId));
  }

  attachTraining(modelId: string, role: TrainingFileRole, file: string): Promise<TrainingSetup> {
    return this.trainings.attach(modelId, this.models.get(modelId), role, file);
  }

  async planTraining(request: TrainingRequest): Promise<TrainingPlan> {
    const provider = await this.devices.providerOf(request.provider);
    return this.trainings.plan(request, this.models.get(request.modelId), provider);
  }

  async startTraining(request: TrainingRequest, outputDirectory?: string): Promise<{ jobId: string }> {
    const model = this.models.get(request.modelId);
    await this.quiet();
    return this.trainings.start(request, model, await this.devices.providerOf(request.provider), outputDirectory);
  }

  async resumeTraining(modelId: string): Promise<{ jobId: string }> {
    const model = this.models.get(modelId);
    await this.quiet();
    return this.trainings.resume(model);
  }

  discardTraining(modelId: string): Promise<TrainingSetup> {
    return this.trainings.discard(modelId, this.models.get(modelId));
  }

  stopTraining(jobId: string): Promise<void> {
    this.trainings.stop(jobId);
    return Promise.resolve();
  }

  async startFit(request: PlanRequest, outputDirectory?: string): Promise<{ jobId: string }> {
    const model = this.models.get(request.modelId);
    await this.quiet();
    const provider = await this.devices.providerOf(request.pins.provider);
    const known = await this.record.known(await this.devices.keyOf(provider));
    const curve = this.pruning.partOf(request.modelId, samplesOf(model));
    return this.fits.start({ model, request, provider, known, curve, outputDirectory });
  }

  private async learn(jobId: string, report: FitReport): Promise<void> {
    const key = await this.devices.keyOf(report.plan.provider);
    await this.record.addRuns(runsOfReport(report, key, Date.now()));
    await this.tellAccuracy(jobId);
  }

  async cancel(jobId: string): Promise<{ kept: FitReport | null }> {
    return (await this.trainings.cancel(jobId)) ? { kept: null } : this.fits.cancel(jobId);
  }

  onJobEvent(listener: (event: JobEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private emit(event: JobEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  outputOf(jobId: string): { path: string; report: FitReport | TrainingReport } | null {
    const report = this.fits.reportOf(jobId) ?? this.trainings.reportOf(jobId);
    return report?.output ? { path: report.output.path, report } : null;
  }

  reportHtml(jobId: string): string | null {
    const report = this.fits.reportOf(jobId);
    return report ? reportHtml(report) : null;
  }

  async close(): Promise<void> {
    await this.quiet();
    this.models.close();
    await Promise.all([this.fits.close(), this.trainings.close()]);
    this.listeners.clear();
  }
}

/** What a sweep over batch sizes rests on. */
function sweepBasis(model: HeldModel, provider: Provider, dims: Record<string, number> = {}): string {
  return JSON.stringify([samplesOf(model), provider, dims]);
}
