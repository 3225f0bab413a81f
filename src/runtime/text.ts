import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from '../onnx/failures.js';
import type { Rows } from './dataset.js';
import { readFailure } from './npy.js';

/** Text is tokenized in pieces of about this many bytes, cut at line ends. */
const pieceBytes = 1 << 16;
/** Enough tokens for any calibration; the rest of a longer file is not read. */
const maxTokens = 1 << 24;

/**
 * The text as non-overlapping windows of `sequence` token ids, tokenized by the `tokenizer.json` beside the
 * model, without special tokens. What does not fill a window at the end is left out.
 *
 * @throws SnugError E_DATA_FORMAT without a usable tokenizer, E_DATA_SHAPE when the text is too short,
 *   E_DIMENSION for an impossible `sequence`
 */
export async function textWindows(file: string, modelDirectory: string, sequence: number): Promise<Rows> {
  if (!Number.isSafeInteger(sequence) || sequence < 1) {
    throw new SnugError('E_DIMENSION', `A window cannot have ${sequence} tokens.`, {
      action: 'Give a whole number above 0 for --dim sequence=N.',
    });
  }
  const tokenizer = await loadTokenizer(modelDirectory);
  const ids = await tokenize(file, tokenizer);
  const rows = Math.floor(ids.length / sequence);
  if (rows === 0) {
    throw new SnugError('E_DATA_SHAPE', `The text has ${ids.length} tokens, one sample needs ${sequence}.`, {
      action: 'Give a longer text, or a shorter sequence (--dim sequence=N).',
      params: { tokens: ids.length, sequence },
    });
  }
  return {
    dtype: 'int32',
    rows,
    rowDims: [sequence],
    read: (start, count) => Promise.resolve(ids.slice(start * sequence, (start + count) * sequence)),
    close: () => Promise.resolve(),
  };
}

async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const file = path.join(directory, 'tokenizer.json');
  const config = await readJson(path.join(directory, 'tokenizer_config.json'));
  const definition = await readJson(file);
  if (definition === null) {
    throw new SnugError('E_DATA_FORMAT', 'Text needs the file tokenizer.json beside the model.', {
      action: 'Copy tokenizer.json into the folder of the model, or give token ids as a .npy array.',
      params: { path: file },
    });
  }
  try {
    return new Tokenizer(definition, config ?? {});
  } catch (thrown) {
    throw new SnugError('E_DATA_FORMAT', 'The tokenizer of the model cannot be used.', {
      action: 'Give token ids as a .npy array instead of text.',
      params: { path: file },
      details: String(thrown),
    });
  }
}

async function readJson(file: string): Promise<object | null> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'));
    return typeof value === 'object' ? value : null;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return null;
    throw new SnugError('E_DATA_FORMAT', `${path.basename(file)} cannot be read.`, {
      action: 'Download the file of the model again.',
      params: { path: file },
      details: String(thrown),
    });
  }
}

async function tokenize(file: string, tokenizer: Tokenizer): Promise<Int32Array> {
  const pieces: number[][] = [];
  let tokens = 0;
  const add = (text: string): void => {
    const { ids } = tokenizer.encode(text, { add_special_tokens: false });
    pieces.push(ids);
    tokens += ids.length;
  };
  const handle = await open(file).catch((cause: unknown) => {
    throw readFailure(file, cause);
  });
  let rest = '';
  for await (const chunk of handle.createReadStream({ encoding: 'utf8', highWaterMark: pieceBytes })) {
    const text = rest + String(chunk);
    const cut = text.lastIndexOf('\n') + 1;
    if (cut > 0) add(text.slice(0, cut));
    rest = text.slice(cut);
    if (tokens >= maxTokens) break;
  }
  if (rest !== '') add(rest);
  const ids = new Int32Array(tokens);
  let position = 0;
  for (const piece of pieces) {
    ids.set(piece, position);
    position += piece.length;
  }
  return ids;
}
