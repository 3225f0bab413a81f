import { readFileSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import type { Model } from '../../../src/onnx/model.js';
import { writeModel } from '../../../src/onnx/write.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeArray, RuntimeDtype, RuntimeSession } from '../../../src/runtime/types.js';

export const modelsFolder = path.resolve('../shared/models');

/** A runtime in this very process: what these tests check is the numbers, not the process. */
export const inProcessRuntime: Runtime = {
  providers: () => Promise.resolve(['cpu']),
  open: async ({ modelPath }) => openSession(modelPath),
  measure: () => Promise.reject(new Error('not used here')),
  close: () => Promise.resolve(),
};

async function openSession(modelPath: string): Promise<RuntimeSession> {
  const session = await ort.InferenceSession.create(modelPath, { logSeverityLevel: 3 });
  return {
    inputs: [],
    outputs: [],
    run: async (feeds, fetches) => {
      const given = Object.fromEntries(
        Object.entries(feeds).map(([name, t]) => [
          name,
          new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.dims),
        ]),
      );
      const results = await (fetches === undefined ? session.run(given) : session.run(given, fetches));
      return Object.fromEntries(
        Object.entries(results).map(([name, t]) => [
          name,
          { dtype: t.type as RuntimeDtype, dims: [...t.dims], data: t.data as RuntimeArray },
        ]),
      );
    },
    hold: () => Promise.reject(new Error('not used here')),
    holdFile: () => Promise.reject(new Error('not used here')),
    runProducts: () => Promise.reject(new Error('not used here')),
    storeProducts: () => Promise.reject(new Error('not used here')),
    close: () => session.release(),
  };
}

export function temporaryFolder(): { path: string; remove: () => void } {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-prune-'));
  return { path: folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

let written = 0;

export async function openModel(model: Model, folder: string): Promise<RuntimeSession> {
  const file = path.join(folder, `model-${written++}.onnx`);
  writeModel(model, file, { overwrite: true });
  return inProcessRuntime.open({ modelPath: file, provider: 'cpu' });
}

export async function runModel(model: Model, feeds: Feeds, folder: string): Promise<Feeds> {
  const session = await openModel(model, folder);
  const results = await session.run(feeds);
  await session.close();
  return results;
}

/** Float32 or int64 array of a version 1 .npy file. */
export function readNpy(file: string): { dims: number[]; data: Float32Array | BigInt64Array } {
  const bytes = readFileSync(file);
  const headerLength = bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', 10, 10 + headerLength);
  const dims = /'shape': \(([^)]*)\)/
    .exec(header)![1]!
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number);
  const body = bytes.buffer.slice(
    bytes.byteOffset + 10 + headerLength,
    bytes.byteOffset + bytes.byteLength,
  ) as ArrayBuffer;
  return { dims, data: header.includes('<i8') ? new BigInt64Array(body) : new Float32Array(body) };
}

export function imageDataset(file: string): Dataset {
  const { dims, data } = readNpy(file);
  const size = dims.slice(1).reduce((a, b) => a * b, 1);
  return {
    name: path.basename(file),
    samples: dims[0]!,
    dims: {},
    feeds: (start, count) =>
      Promise.resolve({
        input: {
          dtype: 'float32',
          dims: [count, ...dims.slice(1)],
          data: (data as Float32Array).slice(start * size, (start + count) * size),
        },
      }),
    close: () => Promise.resolve(),
  };
}

/** Character tokens of a text for kjv-gpt. */
export function readTokens(textFile: string): number[] {
  const tokenizer = JSON.parse(readFileSync(path.join(modelsFolder, 'kjv-gpt/tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number> };
  };
  const { vocab } = tokenizer.model;
  return [...readFileSync(textFile, 'utf8')].map((char) => vocab[char] ?? 0);
}

/** Windows of `sequence` tokens with an empty cache. */
export function textDataset(textFile: string, sequence: number): Dataset {
  const tokens = readTokens(textFile);
  return {
    name: path.basename(textFile),
    samples: Math.floor(tokens.length / sequence),
    dims: { sequence },
    feeds: (start, count) =>
      Promise.resolve(textFeeds(tokens.slice(start * sequence, (start + count) * sequence), count)),
    close: () => Promise.resolve(),
  };
}

function textFeeds(tokens: readonly number[], count: number): Feeds {
  const length = tokens.length / count;
  const feeds: Feeds = {
    input_ids: { dtype: 'int64', dims: [count, length], data: BigInt64Array.from(tokens, BigInt) },
    attention_mask: { dtype: 'int64', dims: [count, length], data: new BigInt64Array(tokens.length).fill(1n) },
  };
  for (let layer = 0; layer < 4; layer++) {
    for (const part of ['key', 'value']) {
      feeds[`past_key_values.${layer}.${part}`] = {
        dtype: 'float32',
        dims: [count, 6, 0, 32],
        data: new Float32Array(),
      };
    }
  }
  return feeds;
}

/** Share of test digits a model names rightly. */
export async function digitsAccuracy(model: Model, folder: string): Promise<number> {
  const data = imageDataset(path.join(modelsFolder, 'digits-test.npy'));
  const labels = readNpy(path.join(modelsFolder, 'digits-test-labels.npy')).data;
  const output = (await runModel(model, await data.feeds(0, data.samples), folder)).output!;
  const logits = output.data as Float32Array;
  let right = 0;
  for (let row = 0; row < labels.length; row++) {
    const scores = logits.subarray(row * 10, row * 10 + 10);
    if (scores.indexOf(Math.max(...scores)) === Number(labels[row])) right++;
  }
  return right / labels.length;
}

/** Mean nats per character over windows of `sequence` tokens. */
export async function natsPerCharacter(
  model: Model,
  folder: string,
  textFile: string,
  windows = Infinity,
): Promise<number> {
  const sequence = 128;
  const data = textDataset(textFile, sequence);
  const session = await openModel(model, folder);
  let total = 0;
  let count = 0;
  for (let start = 0; start < Math.min(data.samples, windows); start += 16) {
    const batch = Math.min(16, data.samples - start);
    const feeds = await data.feeds(start, batch);
    const logits = (await session.run(feeds, ['logits'])).logits!;
    const vocab = logits.dims[2]!;
    const values = logits.data as Float32Array;
    const ids = feeds.input_ids!.data as BigInt64Array;
    for (let row = 0; row < batch * sequence; row++) {
      if (row % sequence === sequence - 1) continue;
      const scores = values.subarray(row * vocab, (row + 1) * vocab);
      const top = Math.max(...scores);
      let sum = 0;
      for (const score of scores) sum += Math.exp(score - top);
      total += Math.log(sum) + top - scores[Number(ids[row + 1])]!;
      count++;
    }
  }
  await session.close();
  return total / count;
}
