import type * as ort from 'onnxruntime-node';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import type { Provider } from '../contract/types.js';
import { classifyRuntimeError, providerError } from './errors.js';
import { tinyModel } from './tiny-model.js';
import type { Feeds, RuntimeArray, RuntimeDtype, RuntimeValue, SessionSpec } from './types.js';

type OnnxRuntime = typeof ort;

let loaded: Promise<OnnxRuntime> | null = null;

/** onnxruntime-node, loaded when first needed. A missing binary for this system is an error with a name. */
export function onnxruntime(): Promise<OnnxRuntime> {
  loaded ??= import('onnxruntime-node').then(
    (runtime) => {
      runtime.env.logLevel = 'error';
      return runtime;
    },
    (cause: unknown) => {
      throw new SnugError('E_PROVIDER', 'onnxruntime cannot be loaded on this computer.', {
        action: 'Run "npm ci" again on this computer; onnxruntime has no build for some systems (macOS on Intel).',
        details: textOf(cause),
        cause,
      });
    },
  );
  return loaded;
}

export function textOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

const backendOf: Record<Provider, string> = {
  cpu: 'cpu',
  cuda: 'cuda',
  dml: 'dml',
  webgpu: 'webgpu',
  coreml: 'coreml',
};

/** Providers this build of onnxruntime knows of; whether each one works here is another question. */
export async function knownBackends(): Promise<Provider[]> {
  const { listSupportedBackends } = await onnxruntime();
  const names = new Set(listSupportedBackends().map((backend) => backend.name));
  return (Object.keys(backendOf) as Provider[]).filter((provider) => names.has(backendOf[provider]));
}

/** Session options for `spec`; only the asked provider is named, the runtime adds the CPU behind it. */
export function sessionOptions(spec: Omit<SessionSpec, 'modelPath'>): InferenceSession.SessionOptions {
  // WebGPU and DirectML have no use for one large block planned ahead (their buffers are pooled by size),
  // and DirectML only runs sequentially without it.
  const { disabledOptimizers: disabled = [], cpuNodes = [] } = spec.levers ?? {};
  const planned = spec.provider === 'cpu' || spec.provider === 'cuda';
  return {
    executionProviders: [
      spec.provider === 'webgpu' && cpuNodes.length > 0
        ? { name: 'webgpu', forceCpuNodeNames: cpuNodes }
        : backendOf[spec.provider],
    ],
    graphOptimizationLevel: spec.graphOptimization ?? 'all',
    enableCpuMemArena: spec.lean !== true,
    enableMemPattern: planned && spec.lean !== true && (spec.levers?.memoryPattern ?? true),
    executionMode: 'sequential',
    logSeverityLevel: 3,
    extra: {
      ...(disabled.length === 0 ? {} : { optimization: { disable_specified_optimizers: disabled.join(';') } }),
      ...(spec.lean === true ? { session: { disable_prepacking: '1' } } : {}),
    },
    ...(spec.threads === undefined ? {} : { intraOpNumThreads: spec.threads }),
  };
}

/** Creates a session; failures carry the code that fits their text. */
export async function createSession(
  spec: SessionSpec,
  extra: Partial<InferenceSession.SessionOptions> = {},
): Promise<InferenceSession> {
  const runtime = await onnxruntime();
  try {
    return await runtime.InferenceSession.create(spec.modelPath, { ...sessionOptions(spec), ...extra });
  } catch (thrown) {
    const error = classifyRuntimeError(textOf(thrown), 'load');
    throw error.code === 'E_PROVIDER' ? providerError(spec.provider, textOf(thrown)) : error;
  }
}

/** Creates and runs the tiny model on a provider; the session stays open so that the device stays alive. */
export async function openTiny(provider: Provider): Promise<InferenceSession> {
  const runtime = await onnxruntime();
  try {
    const session = await runtime.InferenceSession.create(tinyModel(), sessionOptions({ provider }));
    // The second run shows what only a device in use holds.
    for (let run = 0; run < 2; run += 1) await runTiny(session);
    return session;
  } catch (thrown) {
    throw providerError(provider, textOf(thrown));
  }
}

/** Runs the tiny model of {@link openTiny}; returns when the device has done all its work. */
export async function runTiny(session: InferenceSession): Promise<void> {
  const runtime = await onnxruntime();
  const outputs = await session.run({ x: new runtime.Tensor('float32', new Float32Array(4), [4]) });
  for (const tensor of Object.values(outputs)) tensor.dispose();
}

export function valuesOf(metadata: readonly InferenceSession.ValueMetadata[]): RuntimeValue[] {
  return metadata.map((value) =>
    value.isTensor
      ? { name: value.name, dtype: value.type, dims: [...value.shape] }
      : { name: value.name, dtype: 'other', dims: [] },
  );
}

const elementCount = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

export async function toTensors(feeds: Feeds): Promise<Record<string, Tensor>> {
  const runtime = await onnxruntime();
  const result: Record<string, Tensor> = {};
  for (const [name, { dtype, dims, data }] of Object.entries(feeds)) {
    const expected = elementCount(dims);
    if (data.length !== expected) {
      throw new SnugError('E_DATA_SHAPE', `The data for "${name}" has ${data.length} elements, not ${expected}.`, {
        action: 'Check the shape of the data.',
        params: { input: name, elements: data.length, expected },
      });
    }
    try {
      result[name] = new runtime.Tensor(dtype, halfView(dtype, data) as never, dims);
    } catch (thrown) {
      throw new SnugError('E_DATA_SHAPE', `The data for "${name}" has the wrong number type for ${dtype}.`, {
        action: 'Convert the data to the number type of the input.',
        params: { input: name, dtype },
        details: textOf(thrown),
      });
    }
  }
  return result;
}

type HalfArray = new (buffer: ArrayBufferLike, offset: number, length: number) => unknown;

/** JavaScript engines that know float16 make onnxruntime ask for `Float16Array`; the bits are the same. */
function halfView(dtype: RuntimeDtype, data: RuntimeArray): unknown {
  const Half = (globalThis as { Float16Array?: HalfArray }).Float16Array;
  if (dtype !== 'float16' || !Half) return data;
  return new Half(data.buffer, data.byteOffset, data.length);
}

const carried = new Set<string>([
  'float32', 'float16', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'bool',
]); // prettier-ignore

/** The outputs as plain values, which share the runtime's memory until they are collected. */
export function takeOutputs(outputs: Readonly<Record<string, Tensor>>): Feeds {
  const result: Feeds = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    if (!carried.has(tensor.type)) {
      throw new SnugError(
        'E_NOT_SUPPORTED',
        `The output "${name}" has the type ${tensor.type}, which Snug cannot read.`,
        {
          action: 'Ask for other outputs of the model.',
          params: { output: name, dtype: tensor.type },
        },
      );
    }
    const view = tensor.data as RuntimeArray;
    const { buffer, byteOffset, length } = view;
    const data = tensor.type === 'float16' ? new Uint16Array(buffer as ArrayBuffer, byteOffset, length) : view;
    result[name] = { dtype: tensor.type as RuntimeDtype, dims: [...tensor.dims], data };
    tensor.dispose();
  }
  return result;
}

/**
 * Runs once; failures carry the code that fits their text.
 * @param fetches outputs wanted (all when left out), or tensors the runtime writes them into
 */
export async function runSession(
  session: InferenceSession,
  tensors: Record<string, Tensor>,
  fetches?: readonly string[] | Readonly<Record<string, Tensor>>,
): Promise<Readonly<Record<string, Tensor>>> {
  const names = fetches && (Array.isArray(fetches) ? (fetches as readonly string[]) : Object.keys(fetches));
  const unknown = names?.find((name) => !session.outputNames.includes(name));
  if (unknown !== undefined) {
    throw new SnugError('E_USAGE', `The model has no output "${unknown}".`, {
      action: `Choose among: ${session.outputNames.join(', ')}.`,
      params: { output: unknown },
    });
  }
  const known = Object.fromEntries(Object.entries(tensors).filter(([name]) => session.inputNames.includes(name)));
  try {
    return fetches ? await session.run(known, fetches) : await session.run(known);
  } catch (thrown) {
    throw classifyRuntimeError(textOf(thrown), 'run');
  }
}
