import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from '../onnx/failures.js';
import { arrayFromBytes } from './arrays.js';
import type { Rows } from './dataset.js';
import { readFailure } from './npy.js';
import { Spool } from './spool.js';

/** Text is tokenized in pieces of about this many bytes, cut at line ends. */
const pieceBytes = 1 << 16;
/** A line longer than this is cut where it is, after a blank if there is one. */
export const longestLine = 1 << 18;
const tokenBytes = Int32Array.BYTES_PER_ELEMENT;
/** Tokens are gathered into pieces of so many before they go to the temporary file. */
const spooledTokens = 1 << 18;

/**
 * The text as non-overlapping windows of `sequence` token ids, tokenized by the `tokenizer.json` beside the
 * model, without special tokens. What does not fill a window at the end is left out. The ids are kept in a
 * temporary file, so a text may be larger than memory.
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
  const spool = await tokenize(file, tokenizer);
  const tokens = spool.size / tokenBytes;
  const rows = Math.floor(tokens / sequence);
  if (rows === 0) {
    await spool.discard();
    throw new SnugError('E_DATA_SHAPE', `The text has ${tokens} tokens, one sample needs ${sequence}.`, {
      action: 'Give a longer text, or a shorter sequence (--dim sequence=N).',
      params: { tokens, sequence },
    });
  }
  const source = spool.source();
  const rowBytes = sequence * tokenBytes;
  return {
    dtype: 'int32',
    rows,
    rowDims: [sequence],
    read: async (start, count) => arrayFromBytes('int32', await source.read(start * rowBytes, count * rowBytes)),
    close: () => source.close(),
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

async function tokenize(file: string, tokenizer: Tokenizer): Promise<Spool> {
  const handle = await open(file).catch((cause: unknown) => {
    throw readFailure(file, cause);
  });
  const spool = await Spool.create().catch(async (error: unknown) => {
    await handle.close();
    throw error;
  });
  let ids: number[] = [];
  const flush = async (): Promise<void> => {
    const bytes = new Uint8Array(Int32Array.from(ids).buffer);
    ids = [];
    await spool.append(bytes);
  };
  const add = async (text: string): Promise<void> => {
    for (const id of tokenizer.encode(text, { add_special_tokens: false }).ids) ids.push(id);
    if (ids.length >= spooledTokens) await flush();
  };
  try {
    let rest = '';
    for await (const chunk of handle.createReadStream({ encoding: 'utf8', highWaterMark: pieceBytes })) {
      const text = rest + String(chunk);
      const cut = cutPlace(text);
      if (cut > 0) await add(text.slice(0, cut));
      rest = text.slice(cut);
    }
    if (rest !== '') await add(rest);
    await flush();
    return spool;
  } catch (error) {
    await spool.discard();
    throw error;
  }
}

/** Where a text that goes on may be cut: behind its last line, or within a line that is too long to be waited for. */
export function cutPlace(text: string): number {
  const line = text.lastIndexOf('\n') + 1;
  if (line > 0 || text.length < longestLine) return line;
  const blank = text.lastIndexOf(' ');
  if (blank > 0) return blank;
  // Never between the two halves of one character.
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last < 0xdc00 ? text.length - 1 : text.length;
}
