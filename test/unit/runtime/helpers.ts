import { writeFile } from 'node:fs/promises';
import { npyHeader } from '../../../src/runtime/npy.js';
import type { RuntimeArray, RuntimeDtype } from '../../../src/runtime/types.js';

/** A whole .npy file. */
export async function writeNpy(file: string, dtype: RuntimeDtype, dims: number[], data: RuntimeArray): Promise<void> {
  await writeFile(
    file,
    Buffer.concat([npyHeader(dtype, dims), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]),
  );
}
