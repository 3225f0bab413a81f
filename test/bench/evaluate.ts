import * as ort from 'onnxruntime-node';
import path from 'node:path';
import { openData, openModel } from '../../src/app/open.js';
import type { Feeds, RuntimeTensor } from '../../src/runtime/types.js';

/** Plain onnxruntime with its default options, in this process: how any other program would run the file. */
async function plainRun(session: ort.InferenceSession, feeds: Feeds): Promise<Record<string, ort.Tensor>> {
  const tensors = Object.fromEntries(
    Object.entries(feeds).map(([name, t]: [string, RuntimeTensor]) => [
      name,
      new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.dims),
    ]),
  );
  return (await session.run(tensors)) as Record<string, ort.Tensor>;
}

/** Share of right top-1 answers of a classifier on labelled samples. */
export async function accuracy(model: string, data: string, labels: string): Promise<number> {
  const opened = openModel(model);
  const session = await ort.InferenceSession.create(opened.path);
  const dataset = await openData(data, opened, {});
  const truth = await openLabels(labels);
  let right = 0;
  for (let start = 0; start < dataset.samples; start += 64) {
    const count = Math.min(64, dataset.samples - start);
    const output = (await plainRun(session, await dataset.feeds(start, count)))[session.outputNames[0]];
    const scores = output.data as Float32Array;
    const classes = output.dims[1];
    for (let i = 0; i < count; i++) {
      const row = scores.subarray(i * classes, (i + 1) * classes);
      if (row.indexOf(Math.max(...row)) === truth[start + i]) right++;
    }
  }
  await session.release();
  await dataset.close();
  return right / truth.length;
}

async function openLabels(file: string): Promise<number[]> {
  const { readFileSync } = await import('node:fs');
  const bytes = readFileSync(file);
  const header = bytes.readUInt16LE(8);
  const values = bytes.subarray(10 + header);
  return Array.from({ length: values.length / 8 }, (_, i) => Number(values.readBigInt64LE(i * 8)));
}

/** Mean negative log-likelihood in nats per token of a decoder, over windows of `sequence` tokens. */
export async function natsPerToken(
  model: string,
  text: string,
  sequence: number,
  tokenizerFolder: string,
): Promise<number> {
  const opened = openModel(model);
  if (opened.model.source) opened.model.source.directory = path.resolve(tokenizerFolder);
  const session = await ort.InferenceSession.create(opened.path);
  const dataset = await openData(text, opened, { sequence });
  let sum = 0;
  let tokens = 0;
  for (let start = 0; start < dataset.samples; start += 4) {
    const count = Math.min(4, dataset.samples - start);
    const feeds = await dataset.feeds(start, count);
    const { logits } = await plainRun(session, feeds);
    const ids = feeds.input_ids.data as BigInt64Array;
    const vocabulary = logits.dims[2];
    const scores = logits.data as Float32Array;
    for (let row = 0; row < count; row++) {
      for (let t = 0; t + 1 < sequence; t++) {
        const at = (row * sequence + t) * vocabulary;
        const line = scores.subarray(at, at + vocabulary);
        const top = line.reduce((a, b) => Math.max(a, b), -Infinity);
        const total = line.reduce((a, b) => a + Math.exp(b - top), 0);
        sum += Math.log(total) + top - line[Number(ids[row * sequence + t + 1])];
        tokens++;
      }
    }
  }
  await session.release();
  await dataset.close();
  return sum / tokens;
}
