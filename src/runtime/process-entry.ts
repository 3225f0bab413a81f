/**
 * The onnxruntime process. It serves one caller over Node IPC (child process) or over the parent port of an
 * Electron utility process, one request after the other, and ends when the caller is gone. Its working
 * directory is empty and its own; the caller removes it.
 */
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import { bytesOfValues, Garbage } from './garbage.js';
import { HeldValues } from './held.js';
import { measureModel } from './measure.js';
import { ownChannel } from './own-channel.js';
import { ProductSums } from './products.js';
import {
  noTelemetry,
  runFolderPrefix,
  type FromProcess,
  type RequestKind,
  type RuntimeAnswers,
  type RuntimeRequest,
  type ToProcess,
} from './protocol.js';
import { createSession, knownBackends, openTiny, runSession, takeOutputs, valuesOf } from './session.js';
import { Training } from './training-process.js';
import type { Feeds } from './types.js';

// Whoever starts this process, and with whatever environment: the library is loaded later, on demand.
Object.assign(process.env, noTelemetry);

let session: InferenceSession | null = null;
const held = new HeldValues();
const products = new ProductSums();
/** Whether the session shall hold little memory. */
let lean = false;
/** Bytes of values of the last run. */
let spent = 0;
const garbage = new Garbage();
/** Whether this process has run a session before. */
let settled = false;
let training: Training | null = null;

function openTraining(): Training {
  if (!training) throw new SnugError('E_BAD_REQUEST', 'No model is being trained in this process.');
  return training;
}

async function answer(id: number, request: RuntimeRequest): Promise<RuntimeAnswers[RequestKind]> {
  switch (request.kind) {
    case 'backends':
      return knownBackends();
    case 'probe':
      await (await openTiny(request.provider)).release();
      return null;
    case 'open':
      await tellBase();
      lean = request.spec.lean === true;
      session = await createSession(request.spec);
      return { inputs: valuesOf(session.inputMetadata), outputs: valuesOf(session.outputMetadata) };
    case 'run':
      return takeOutputs(await outputsOf(request.feeds, request.fetches));
    case 'hold':
      await held.hold(request.values);
      return null;
    case 'hold-file':
      await held.holdFile(request.path, request.values);
      return null;
    case 'products':
      return runProducts(request);
    case 'store-products':
      return products.store(request.output, request.path);
    case 'measure':
      await tellBase();
      return measureModel(request, process.cwd(), async () => {
        await tellBase();
        channel.post({ id, mark: 'baseline' });
        await new Promise<void>((resolve) => (proceed = resolve));
      });
    case 'train-open':
      await tellBase();
      training = await Training.open(request.spec);
      return null;
    case 'train-step':
      return openTraining().step(request.feeds, request.weight, request.rate);
    case 'train-evaluate':
      return openTraining().evaluate(request.feeds);
    case 'train-save':
      openTraining().save(request.path, request.meta, request.withMoments);
      return null;
    case 'close':
      await session?.release();
      session = null;
      held.clear();
      await training?.release();
      training = null;
      return null;
  }
}

async function outputsOf(feeds: Feeds, fetches?: readonly string[]): Promise<Readonly<Record<string, Tensor>>> {
  if (!session) throw new SnugError('E_BAD_REQUEST', 'No model is open in this process.');
  // What the last run left has been sent by now.
  if (lean) garbage.add(spent);
  const outputs = await runSession(session, await held.with(feeds), fetches);
  spent = bytesOfValues(feeds) + bytesOfValues(outputs);
  return outputs;
}

async function runProducts(
  request: Extract<RuntimeRequest, { kind: 'products' }>,
): Promise<RuntimeAnswers['products']> {
  const { feeds, fetches } = request;
  const names = request.products.map(({ output }) => output);
  const outputs = await outputsOf(feeds, [...fetches, ...names]);
  const rows = await products.add(outputs, request.products);
  return { results: takeOutputs(Object.fromEntries(fetches.map((name) => [name, outputs[name]!]))), rows };
}

/** What this process holds now is its own and the runtime's; all above it will be a model's. */
async function tellBase(): Promise<void> {
  // A first session brings in code and threads that every later one shares.
  if (!settled) await (await openTiny('cpu')).release();
  settled = true;
  channel.post({ base: process.memoryUsage.rss() });
}

/** Resolves the wait of a measurement for its caller. */
let proceed: () => void = () => undefined;

const channel = ownChannel<FromProcess, ToProcess>();
let queue: Promise<void> = Promise.resolve();

channel.onMessage((message) => {
  if ('proceed' in message) {
    proceed();
    return;
  }
  const { id, request } = message;
  queue = queue.then(async () => {
    try {
      channel.post({ id, ok: true, value: await answer(id, request) });
    } catch (thrown) {
      channel.post({ id, ok: false, error: SnugError.from(thrown).toReport() });
    }
  });
});
channel.onClose(() => {
  // The caller died without removing the folder it had made for this process.
  const folder = process.cwd();
  if (path.basename(folder).startsWith(runFolderPrefix)) rmSync(folder, { recursive: true, force: true });
  process.exit(0);
});
