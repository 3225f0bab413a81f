import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { zipSync } from 'fflate';
import { openData, openModel } from '../../../src/app/open.js';
import { writeModel } from '../../../src/onnx/write.js';
import { accuracy, natsPerToken } from '../evaluate.js';
import { bertBase, vitB16 } from '../graphs/index.js';
import { npy } from '../npy.js';
import { images, makeRealistic, words } from './realistic.js';

/** A model with samples to calibrate on and others to be judged by. */
export interface Case {
  name: string;
  file: string;
  /** The Python tools get a copy in an empty folder: they would take the config.json beside it for a Hugging Face model. */
  alone?: boolean;
  /** As `snug quantize --calibrate` takes them. */
  calibration: string;
  heldOut: string;
  dims: Record<string, number>;
  /** Held-out samples compared. */
  samples: number;
  /** Answers known to be right: the model's score on them. */
  score: ((file: string) => Promise<string>) | null;
}

const models = path.resolve('../shared/models');
const shared = (name: string): string => path.join(models, name);

const digits = (name: string): Case => ({
  name,
  file: shared(`${name}.onnx`),
  calibration: shared('digits-calibration.npy'),
  heldOut: shared('digits-test.npy'),
  dims: {},
  samples: 597,
  score: async (file) =>
    `${(100 * (await accuracy(file, shared('digits-test.npy'), shared('digits-test-labels.npy')))).toFixed(2)} %`,
});

const gpt: Case = {
  name: 'kjv-gpt',
  file: shared('kjv-gpt/model.onnx'),
  alone: true,
  calibration: shared('kjv-calibration.txt'),
  heldOut: shared('kjv-test.txt'),
  dims: { sequence: 128 },
  samples: 96,
  score: async (file) =>
    `${(await natsPerToken(file, shared('kjv-test.txt'), 128, shared('kjv-gpt'))).toFixed(4)} nats`,
};

const sequence = 64;
/** Blocks of the two large transformers, of the published twelve. */
const layers = Number(process.env.BENCH_LAYERS ?? 3);

function vit(folder: string): Case {
  const model = vitB16({ layers });
  makeRealistic(model);
  const file = path.join(folder, 'vit-b.onnx');
  writeModel(model, file);
  const [calibration, heldOut] = [32, 8].map((count, i) => {
    const target = path.join(folder, `vit-b-${i}.npy`);
    writeFileSync(target, npy('<f4', [count, 3, 224, 224], images(count, 224, 11 + i)));
    return target;
  }) as [string, string];
  return { name: 'vit-b', file, calibration, heldOut, dims: {}, samples: 8, score: null };
}

function bert(folder: string): Case {
  const model = bertBase({ layers });
  makeRealistic(model);
  const file = path.join(folder, 'bert-base.onnx');
  writeModel(model, file);
  const [calibration, heldOut] = [64, 16].map((count, i) => {
    const dims = [count, sequence];
    const all = (value: bigint): BigInt64Array => new BigInt64Array(count * sequence).fill(value);
    const target = path.join(folder, `bert-base-${i}.npz`);
    writeFileSync(
      target,
      zipSync(
        {
          'input_ids.npy': npy('<i8', dims, words(count * sequence, 30522, 21 + i)),
          'attention_mask.npy': npy('<i8', dims, all(1n)),
          'token_type_ids.npy': npy('<i8', dims, all(0n)),
        },
        { level: 0 },
      ),
    );
    return target;
  }) as [string, string];
  return { name: 'bert-base', file, calibration, heldOut, dims: { sequence }, samples: 16, score: null };
}

/** Cases by name; a case is written when it is asked for. */
export const cases: Record<string, (folder: string) => Case> = {
  ...(existsSync(models)
    ? {
        'digits-mlp': () => digits('digits-mlp'),
        'digits-resnet': () => digits('digits-resnet'),
        'digits-vit': () => digits('digits-vit'),
        'kjv-gpt': () => gpt,
      }
    : {}),
  'vit-b': vit,
  'bert-base': bert,
};

/** Calibration samples as the Python tools read them: every input of the model, at most `most` samples. */
export async function writeFeeds(subject: Case, folder: string, most: number): Promise<string> {
  const opened = openModel(subject.file);
  const dataset = await openData(subject.calibration, opened, subject.dims);
  const feeds = await dataset.feeds(0, Math.min(most, dataset.samples));
  await dataset.close();
  const kinds: Record<string, string> = { float32: '<f4', int64: '<i8', int32: '<i4', bool: '|b1' };
  const file = path.join(folder, `${subject.name}-feeds.npz`);
  writeFileSync(
    file,
    zipSync(
      Object.fromEntries(
        Object.entries(feeds).map(([name, { dtype, dims, data }]) => [`${name}.npy`, npy(kinds[dtype]!, dims, data)]),
      ),
      { level: 0 },
    ),
  );
  return file;
}
