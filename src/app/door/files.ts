import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { SnugError } from '../../contract/errors.js';

const imageExtensions = new Set(['.png', '.jpg', '.jpeg', '.bmp', '.gif', '.webp']);
const dataExtensions = new Set(['.npy', '.npz', '.txt']);

interface Found {
  path: string;
  directory: boolean;
}

async function look(file: string): Promise<Found> {
  try {
    const found = await stat(file);
    if (found.isFile() || found.isDirectory()) return { path: file, directory: found.isDirectory() };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'EACCES' || code === 'EPERM') {
      throw new SnugError('E_NO_PERMISSION', `Snug may not read ${path.basename(file)}.`, {
        action: 'Give yourself read permission on the file, or choose another one.',
        params: { name: path.basename(file) },
        cause: error,
      });
    }
  }
  throw new SnugError('E_NOT_FOUND', `${path.basename(file)} is not there, or is not a file.`, {
    action: 'Choose the file again.',
    params: { name: path.basename(file) },
  });
}

/** Files below `directory`, at most three levels deep: enough for `repository/onnx/model.onnx`. */
async function filesBelow(directory: string, depth = 3): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const lists = await Promise.all(
    entries.map(async (entry) => {
      const full = path.join(directory, entry.name);
      if (entry.isDirectory()) return depth > 1 ? filesBelow(full, depth - 1) : [];
      return entry.isFile() ? [full] : [];
    }),
  );
  return lists.flat().sort();
}

const isModel = (file: string) => file.toLowerCase().endsWith('.onnx');

/**
 * The model among what a person dropped: one `.onnx`, with or without its data files, or a folder with one.
 * A single file of any other name is taken as it is: its content decides, not its name.
 *
 * @throws SnugError `E_USAGE` for several models or none, `E_NOT_FOUND`, `E_NO_PERMISSION`
 */
export async function pickModel(paths: string[]): Promise<string> {
  const found = await Promise.all(paths.map(look));
  const files = (await Promise.all(found.map((one) => (one.directory ? filesBelow(one.path) : [one.path])))).flat();
  const models = files.filter(isModel);
  if (models.length === 1 && models[0] !== undefined) return models[0];
  if (models.length > 1) {
    throw new SnugError('E_USAGE', `There are ${models.length} models here; Snug takes one at a time.`, {
      action: 'Drop one .onnx file, with its data files if it has any.',
      params: { count: models.length },
    });
  }
  if (files.length === 1 && files[0] !== undefined && !found[0]?.directory) return files[0];
  throw new SnugError('E_USAGE', 'There is no .onnx file among what was dropped.', {
    action: 'Drop a file whose name ends in .onnx, or a folder that holds one.',
  });
}

/**
 * The data set among what a person dropped: one `.npy`, `.npz` or text file, or a folder of images.
 *
 * @throws SnugError `E_DATA_FORMAT` when it cannot be told which, `E_NOT_FOUND`, `E_NO_PERMISSION`
 */
export async function pickData(paths: string[]): Promise<string> {
  const found = await Promise.all(paths.map(look));
  const [only] = found;
  if (found.length === 1 && only) return only.path;
  const data = found.filter((one) => dataExtensions.has(path.extname(one.path).toLowerCase()));
  if (data.length === 1 && data[0]) return data[0].path;
  const images = found.filter((one) => imageExtensions.has(path.extname(one.path).toLowerCase()));
  const folders = new Set(images.map((one) => path.dirname(one.path)));
  const [folder] = folders;
  if (images.length === found.length && folders.size === 1 && folder !== undefined) return folder;
  throw new SnugError('E_DATA_FORMAT', 'Snug cannot tell which of these files is the data set.', {
    action: 'Choose one .npy, .npz or text file, or a folder of images.',
  });
}
