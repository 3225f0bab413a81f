import { closeSync, openSync } from 'node:fs';
import type { Tensor } from 'onnxruntime-node';
import { readFully } from '../onnx/source.js';
import { toTensors } from './session.js';
import type { Feeds, FileValue } from './types.js';

/** Input values that stay in the onnxruntime process, part of every run besides those that come with it. */
export class HeldValues {
  readonly #values = new Map<string, Tensor>();

  async hold(values: Feeds): Promise<void> {
    for (const [name, tensor] of Object.entries(await toTensors(values))) this.#values.set(name, tensor);
  }

  /** Values of a file; one of the same shape under the same name is written over. @throws SnugError as `RuntimeSession.holdFile` says. */
  async holdFile(file: string, values: readonly FileValue[]): Promise<void> {
    const handle = openSync(file, 'r');
    try {
      for (const { name, dtype, dims, offset } of values) {
        const known = this.#values.get(name);
        const same = known?.type === dtype && known.dims.join() === dims.join();
        const data = same ? (known.data as Float32Array) : new Float32Array(dims.reduce((size, dim) => size * dim, 1));
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        readFully(handle, file, bytes, offset);
        if (!same) await this.hold({ [name]: { dtype, dims, data } });
      }
    } finally {
      closeSync(handle);
    }
  }

  /** What a run gets: the values held and those that come with it. */
  async with(feeds: Feeds): Promise<Record<string, Tensor>> {
    return { ...Object.fromEntries(this.#values), ...(await toTensors(feeds)) };
  }

  clear(): void {
    this.#values.clear();
  }
}
