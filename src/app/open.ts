import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { GpuReading, HardwareReading, ModelSummary, Provider } from '../contract/types.js';
import { budgetFor } from '../hardware/budget.js';
import { readHardware } from '../hardware/read.js';
import { checkModel, unknownOperators } from '../onnx/check.js';
import type { Model, ValueInfo } from '../onnx/model.js';
import { readModel, resolveModelPath } from '../onnx/read.js';
import { bindingName } from '../onnx/shape-bindings.js';
import { summarizeModel } from '../onnx/summary.js';
import { dataTypeName } from '../onnx/tensor.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { openDataset } from '../runtime/dataset.js';
import type { ImageOptions } from '../runtime/images.js';
import type { Runtime, RuntimeValue } from '../runtime/types.js';

/** A model file that was read, checked and summarised; weights stay on disk. */
export interface OpenedModel {
  /** Absolute. */
  path: string;
  model: Model;
  summary: ModelSummary;
  /** Inputs a caller must feed (initializers with the same name are not asked for). */
  inputs: RuntimeValue[];
}

function runtimeValue(value: ValueInfo): RuntimeValue {
  return {
    name: value.name,
    dtype: dataTypeName(value.dataType),
    dims: (value.dims ?? []).map((dim, axis) => dim ?? bindingName(value, axis) ?? 1),
    ...(value.dims === null ? { anyShape: true } : {}),
  };
}

/**
 * Reads and checks a model before anything heavy happens.
 *
 * @param target an .onnx file, or a folder with exactly one
 * @throws SnugError `E_NOT_FOUND`, `E_NOT_ONNX`, `E_TRUNCATED`, `E_MALFORMED`, `E_EXTERNAL_*`,
 *   `E_OPSET_TOO_NEW`, `E_UNKNOWN_OPERATOR`, `E_TOO_COSTLY`
 */
export function openModel(target: string, options: { allowUnknownOperators?: boolean } = {}): OpenedModel {
  // The runtime process works in a folder of its own: a relative path would mean another file there.
  const modelPath = path.resolve(resolveModelPath(target));
  const model = readModel(modelPath);
  checkModel(model);
  const unknown = unknownOperators(model);
  const summary = summarizeModel(model);
  if (unknown.length > 0) {
    const first = unknown[0];
    if (!options.allowUnknownOperators) {
      throw new SnugError(
        'E_UNKNOWN_OPERATOR',
        `The operator ${first.operator} (node ${first.node}) is not known to the runtime.`,
        {
          action: 'Export the model with standard ONNX operators, or remove the custom operator.',
          params: { operator: first.operator, node: first.node },
        },
      );
    }
    summary.warnings.push(
      `The operator ${first.operator} (node ${first.node}) is not known to the runtime: the model can be read, not run.`,
    );
  }
  const inputs = model.graph.inputs.filter((i) => !model.graph.initializers.has(i.name)).map(runtimeValue);
  return { path: modelPath, model, summary, inputs };
}

/** Opens calibration or test data for a model. */
export async function openData(
  path: string,
  opened: OpenedModel,
  dims: Record<string, number>,
  images: ImageOptions = {},
): Promise<Dataset> {
  return openDataset(path, opened.inputs, {
    dims,
    images,
    modelDirectory: opened.model.source?.directory ?? '.',
    ...(dims.sequence === undefined ? {} : { sequence: dims.sequence }),
  });
}

/**
 * The provider to use when nobody named one: the best that the first GPU with memory and this installation
 * share, else the CPU.
 */
export function defaultProvider(hardware: HardwareReading, installed: Provider[]): Provider {
  const gpu = hardware.gpus.find((g) => g.vendor !== 'none');
  return gpu?.providers.find((p) => installed.includes(p)) ?? 'cpu';
}

/** The device whose free memory is the default budget of a provider. */
export function deviceFor(hardware: HardwareReading, provider: Provider): GpuReading {
  const gpu = hardware.gpus.find(
    (g) => g.providers.includes(provider) && (provider === 'cpu') === (g.vendor === 'none'),
  );
  return (
    gpu ?? {
      id: 'ram',
      name: hardware.cpu.name,
      vendor: 'none',
      totalBytes: hardware.ram.totalBytes,
      freeBytes: hardware.ram.freeBytes,
      heldByOthersBytes: Math.max(
        0,
        hardware.ram.totalBytes - hardware.ram.freeBytes - (hardware.ram.heldByUsBytes ?? 0),
      ),
      heldByUsBytes: hardware.ram.heldByUsBytes,
      address: null,
      shared: true,
      source: hardware.ram.source,
      confidence: hardware.ram.confidence,
      providers: ['cpu'],
      readAt: Date.now(),
      notes: [],
    }
  );
}

/** Free memory less what Snug leaves to others, read right now. */
export async function defaultBudget(runtime: Runtime, provider: Provider): Promise<number> {
  const hardware = await readHardware({ providers: await runtime.providers() });
  const budget = budgetFor(deviceFor(hardware, provider));
  if (budget === null) {
    throw new SnugError('E_USAGE', 'The free memory of this device could not be read.', {
      action: 'Say how much Snug may use, for example --budget 4GB.',
    });
  }
  return budget;
}

/** Bytes free right now on the device of a provider; null when nothing tells. */
export async function freeNow(provider: Provider): Promise<number | null> {
  return deviceFor(await readHardware(), provider).freeBytes;
}

/** @throws SnugError `E_PROVIDER` when this installation cannot run `provider`. */
export async function requireProvider(runtime: Runtime, provider: Provider): Promise<void> {
  const installed = await runtime.providers();
  if (installed.includes(provider)) return;
  throw new SnugError(
    'E_PROVIDER',
    `The execution provider ${provider} is not available here (available: ${installed.join(', ')}).`,
    {
      action:
        provider === 'cuda'
          ? `Run "npm run setup:cuda" once on Linux with an NVIDIA driver, or use --provider ${installed.includes('webgpu') ? 'webgpu' : 'cpu'}.`
          : 'Use another --provider.',
      params: { provider },
    },
  );
}
