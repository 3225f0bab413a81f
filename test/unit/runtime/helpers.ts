import { writeFile } from 'node:fs/promises';
import { npyHeader } from '../../../src/runtime/npy.js';
import type { RuntimeArray, RuntimeDtype } from '../../../src/runtime/types.js';

/** A whole .npy file. */
export function npyBytes(dtype: RuntimeDtype, dims: number[], data: RuntimeArray): Buffer {
  return Buffer.concat([npyHeader(dtype, dims), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}

export function writeNpy(file: string, dtype: RuntimeDtype, dims: number[], data: RuntimeArray): Promise<void> {
  return writeFile(file, npyBytes(dtype, dims, data));
}
