/**
 * The engine process: everything heavy but onnxruntime itself (reading, planning, pruning, quantizing,
 * writing) happens here, so that a door never stalls. It serves one owner over Node IPC or the parent port of
 * an Electron utility process, and ends with it.
 */
import { freemem } from 'node:os';
import { SnugError } from '../contract/errors.js';
import { Analysis } from '../fit/analysis.js';
import { fitModel } from '../fit/fit.js';
import { forbidHalf } from '../fit/half-device.js';
import { sweepBatches, throughputOf } from '../fit/batch-sweep.js';
import { measurePruneCurve } from '../fit/prune-curve.js';
import { Planner } from '../fit/solve.js';
import { createRuntime } from '../runtime/client.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { ownChannel } from '../runtime/own-channel.js';
import type { EngineAnswers, EngineRequest, FromEngine, ToEngine } from './engine-protocol.js';
import { countsLabels, readLabels } from './labels.js';
import type { OpenedModel } from './open.js';
import { calibrate } from './accuracy/calibrate.js';
import { defaultBudget, freeNow, openData, openModel, requireProvider } from './open.js';
import { relaySpawn } from './relay.js';
import { TrainingFiles } from './training-files.js';
import { runTraining } from './training-run.js';

/** A plan is asked for while a hand moves a slider: beyond this, neighbours stand in and the door asks again. */
const patienceMs = 80;

const channel = ownChannel<FromEngine, ToEngine>();
const relay = relaySpawn((message) => channel.post(message));
const abort = new AbortController();

let opened: OpenedModel | null = null;
let data: Dataset | null = null;
let dataPath: string | null = null;
let runtime: ReturnType<typeof createRuntime> | null = null;
let trainingFiles: TrainingFiles | null = null;
const planners = new Map<string, Planner>();

function theRuntime(relayed: boolean): ReturnType<typeof createRuntime> {
  runtime ??= createRuntime({
    ...(relayed ? { spawn: relay.spawn } : {}),
    signal: abort.signal,
    onProcess: (pid) => channel.post({ started: pid }),
    onBase: (pid, bytes) => channel.post({ base: { pid, bytes } }),
    onProcessEnd: (pid) => channel.post({ gone: pid }),
  });
  return runtime;
}

function theModel(): OpenedModel {
  if (!opened) throw new SnugError('E_BAD_REQUEST', 'No model is open in this process.');
  return opened;
}

async function answer(request: EngineRequest, relayed: boolean): Promise<EngineAnswers[EngineRequest['kind']]> {
  switch (request.kind) {
    case 'open':
      opened = openModel(request.path);
      return opened.summary;
    case 'data': {
      await data?.close();
      data = await openData(request.path, theModel(), {});
      dataPath = request.path;
      planners.clear();
      return { name: data.name, samples: data.samples, countable: countsLabels(theModel().summary) };
    }
    case 'labels':
      await readLabels(request.path, data?.samples ?? 0, theModel().summary);
      return null;
    case 'plan': {
      const key = `${request.provider}|${request.half}|${dataPath ?? ''}`;
      let planner = planners.get(key);
      if (!planner) {
        const analysis = new Analysis(theModel().model, request.provider, data !== null);
        if (!request.half) forbidHalf(analysis);
        planner = new Planner(analysis);
        planners.set(key, planner);
        const mine = planner;
        // Later moves find their structures built; a newer planner (data attached) ends this one's warm-up.
        // What goes wrong here goes wrong again, and is told, when a plan asks for it.
        setTimeout(() => void mine.warmUp(() => planners.get(key) !== mine).catch(() => undefined), 0);
      }
      planner.analysis.known = request.known;
      planner.setCurve(request.curve);
      const pins = { ...request.pins, dims: { ...data?.dims, ...request.pins.dims } };
      const view = planner.solve(request.budgetBytes, pins, patienceMs);
      return request.sweep ? { ...view, throughput: throughputOf(view, request.sweep) } : view;
    }
    case 'fit': {
      const model = openModel(request.path);
      const run = theRuntime(relayed);
      await requireProvider(run, request.provider);
      const dataset = request.dataPath ? await openData(request.dataPath, model, request.pins.dims ?? {}) : null;
      const labels =
        dataset && request.labelsPath ? await readLabels(request.labelsPath, dataset.samples, model.summary) : null;
      return fitModel({
        model: model.model,
        modelPath: model.path,
        inputs: model.inputs,
        outputPath: request.outputPath,
        budgetBytes: request.budgetBytes,
        provider: request.provider,
        pins: request.pins,
        known: request.known,
        curve: request.curve,
        dataset,
        ...(labels ? { labels } : {}),
        runtime: run,
        freeBytes: () => freeNow(request.provider),
        recovery: { mode: 'auto', runtime: run, memoryBytes: freemem() / 2 },
        onProgress: (progress) => channel.post({ progress }),
        signal: abort.signal,
      });
    }
    case 'prune-curve': {
      const model = openModel(request.path);
      const dataset = await openData(request.dataPath, model, {});
      return measurePruneCurve({
        model: model.model,
        modelPath: model.path,
        inputs: model.inputs,
        dataset,
        dims: dataset.dims,
        runtime: theRuntime(relayed),
        onCurve: (curve) => channel.post({ curve }),
        signal: abort.signal,
      });
    }
    case 'batch-sweep': {
      const model = openModel(request.path);
      const run = theRuntime(relayed);
      await requireProvider(run, request.provider);
      const dataset = request.dataPath ? await openData(request.dataPath, model, request.dims) : null;
      return sweepBatches({
        model: model.model,
        modelPath: model.path,
        inputs: model.inputs,
        dataset,
        runtime: run,
        provider: request.provider,
        dims: { ...dataset?.dims, ...request.dims },
        limitBytes: await defaultBudget(run, request.provider),
        onSweep: (sweep) => channel.post({ sweep }),
      });
    }
    case 'training-look':
      trainingFiles ??= new TrainingFiles(theModel());
      return trainingFiles.look(request.files, request.checkpoint);
    case 'training-plan':
      trainingFiles ??= new TrainingFiles(theModel());
      return trainingFiles.plan(request);
    case 'train': {
      const run = theRuntime(relayed);
      await requireProvider(run, request.provider);
      return runTraining(request, run, abort.signal, (training) => channel.post({ training }));
    }
    case 'calibrate': {
      const run = theRuntime(relayed);
      await requireProvider(run, request.provider);
      return calibrate(run, request.provider);
    }
  }
}

channel.onMessage((message) => {
  if ('relay' in message) {
    relay.receive(message);
    return;
  }
  if ('stop' in message) {
    abort.abort();
    return;
  }
  const { id, request, relayed } = message;
  answer(request, relayed).then(
    (value) => channel.post({ id, ok: true, value }),
    (error: unknown) => channel.post({ id, ok: false, error: SnugError.from(error).toReport() }),
  );
});
channel.onClose(() => process.exit(0));
