import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import type { Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import { writeError } from '../onnx/output.js';
import { toTensors } from './session.js';
import type { Carry, Feeds } from './types.js';

/** Bytes written in one call. */
const chunkBytes = 16 * 2 ** 20;

/** Input values that stay in the onnxruntime process, part of every run besides those that come with it. */
export class HeldValues {
  readonly #values = new Map<string, Tensor>();

  async hold(values: Feeds): Promise<void> {
    for (const [name, tensor] of Object.entries(await toTensors(values))) this.#values.set(name, tensor);
  }

  /** What a run gets: the values held and those that come with it. */
  async with(feeds: Feeds): Promise<Record<string, Tensor>> {
    return { ...Object.fromEntries(this.#values), ...(await toTensors(feeds)) };
  }

  /** Holds outputs as inputs of the next run; returns the other outputs. */
  carry(outputs: Readonly<Record<string, Tensor>>, carry: Carry): Record<string, Tensor> {
    const rest = { ...outputs };
    for (const [output, input] of Object.entries(carry)) {
      this.#values.set(input, outputs[output]!);
      delete rest[output];
    }
    return rest;
  }

  /** Writes values to a new file, one behind the other; whole or not at all. @throws SnugError as `RuntimeSession.store` says. */
  store(names: readonly string[], file: string): void {
    const tensors = names.map((name) => {
      const tensor = this.#values.get(name);
      if (!tensor) throw new SnugError('E_BAD_REQUEST', `No value is held under the name "${name}".`);
      return tensor;
    });
    let handle: number | null = null;
    let whole = false;
    try {
      handle = openSync(file, 'wx');
      for (const tensor of tensors) {
        const { buffer, byteOffset, byteLength } = tensor.data as Float32Array;
        const bytes = new Uint8Array(buffer, byteOffset, byteLength);
        for (let at = 0; at < byteLength;) at += writeSync(handle, bytes, at, Math.min(chunkBytes, byteLength - at));
      }
      whole = true;
    } catch (error) {
      throw writeError(error, file);
    } finally {
      if (handle !== null) closeSync(handle);
      if (handle !== null && !whole) rmSync(file, { force: true });
    }
  }

  clear(): void {
    this.#values.clear();
  }
}
