import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { openData, type OpenedModel } from '../../../src/app/open.js';
import { madeUpDataset } from '../../../src/fit/made-up.js';
import { batchDimension, bindingName, fedInputs } from '../../../src/onnx/shape-bindings.js';
import { writeModel } from '../../../src/onnx/write.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { bertBase, gpt2, mobilenetV2, resnet50, unet, vitB16 } from '../graphs/index.js';

/** A model of the sweep; `file` writes it first where it is generated. */
export interface Subject {
  name: string;
  file: (folder: string) => string;
}

/** The operator styles of well-known networks at a twelfth or an eighth of their widths; one keeps its weights in a file beside it. */
const small = {
  resnet: () => resnet50({ scale: 1 / 8 }),
  mobilenet: () => mobilenetV2({ scale: 1 / 2 }),
  unet: () => unet({ scale: 1 / 4 }),
  'unet-resize': () => unet({ scale: 1 / 4, up: 'resize' }),
  vit: () => vitB16({ scale: 1 / 6, layers: 2 }),
  bert: () => bertBase({ scale: 1 / 6, layers: 2 }),
  gpt: () => gpt2({ scale: 1 / 6, layers: 2, vocabulary: 512 }),
};

const generated: readonly Subject[] = Object.entries(small).map(([name, build]) => ({
  name: `graph:${name}`,
  file: (folder) => {
    const file = path.join(folder, `${name}.onnx`);
    if (!existsSync(file)) writeModel(build(), file, { externalData: name === 'vit' ? 'always' : 'auto' });
    return file;
  },
}));

/** Every model under a folder and its direct subfolders, then the generated graphs. */
export function subjects(folder: string): Subject[] {
  const found: Subject[] = [];
  const look = (directory: string, prefix: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const target = path.join(directory, entry.name);
      if (entry.isDirectory() && prefix === '') look(target, `${entry.name}/`);
      else if (entry.name.endsWith('.onnx')) found.push({ name: `${prefix}${entry.name}`, file: () => target });
    }
  };
  if (existsSync(folder)) look(folder, '');
  return [...found.sort((a, b) => a.name.localeCompare(b.name)), ...generated];
}

/**
 * Sizes of open dimensions besides the batch: short sequences, small images, nothing remembered. Those that PyTorch
 * numbers (`s53`) may depend on each other; they are left to the engine.
 */
export function smallDims({ model }: OpenedModel): Record<string, number> {
  const dims: Record<string, number> = {};
  const batch = batchDimension(model);
  for (const input of fedInputs(model)) {
    input.dims?.forEach((_, axis) => {
      const name = bindingName(input, axis);
      if (name === null || name === batch || axis === 0 || /^s\d+$/.test(name)) return;
      if (/height|width/i.test(name)) dims[name] = 64;
      else if (!/past/i.test(name)) dims[name] = 16;
    });
  }
  return dims;
}

/** Samples beside the model (`net.npy` for `net.ts.onnx`) where there are any, else made-up ones; few either way. */
export async function samplesOf(opened: OpenedModel, dims: Record<string, number>): Promise<Dataset> {
  const stem = path.join(path.dirname(opened.path), path.basename(opened.path).split('.')[0]!);
  const given = ['.npy', '.npz', '-calibration.npy'].map((end) => `${stem}${end}`).find((file) => existsSync(file));
  const dataset =
    given !== undefined ? await openData(given, opened, dims) : madeUpDataset(opened.model, opened.inputs, dims);
  const few = Math.min(dataset.samples, Math.max(8, dataset.fixedBatch ?? 1));
  return {
    ...{ name: dataset.name, samples: few, dims: dataset.dims },
    ...(dataset.fixedBatch === undefined ? {} : { fixedBatch: dataset.fixedBatch }),
    feeds: (start, count) => dataset.feeds(start, count),
    close: () => dataset.close(),
  };
}
