/** Dawn cuts small buffers out of heaps of this size (Vulkan and D3D12 back ends). */
export const heapBytes = 8 * 2 ** 20;
/** Buffers from this size on get device memory of their own. */
export const ownMemoryBytes = 4 * 2 ** 20;
/** Nothing smaller is handed out: every buffer starts at a multiple of it. */
const granularity = 4096;
/** Address space the heaps are laid out in. */
const space = 2 ** 44;

/**
 * Device memory as Dawn (the WebGPU implementation inside of onnxruntime) takes it: small buffers are rounded up
 * to powers of two and placed into heaps by a buddy allocator, heaps are never given back; large buffers and those
 * the CPU maps have memory of their own. Counts; holds no memory itself.
 */
export class DeviceHeaps {
  #own = 0;
  readonly #heaps = new Set<number>();
  /** Free blocks by size, the most recently freed last. */
  readonly #free = new Map<number, number[]>([[space, [0]]]);

  /** Bytes of device memory taken. */
  get bytes(): number {
    return this.#heaps.size * heapBytes + this.#own;
  }

  get heaps(): number {
    return this.#heaps.size;
  }

  /** Memory of its own, exactly as large as asked for. */
  take(bytes: number): void {
    this.#own += bytes;
  }

  giveBack(bytes: number): void {
    this.#own -= bytes;
  }

  /** Places a buffer; the result is what {@link release} needs. */
  place(bytes: number): DeviceBuffer {
    if (bytes >= ownMemoryBytes) {
      this.take(bytes);
      return { bytes, offset: null };
    }
    const block = Math.max(granularity, 2 ** Math.ceil(Math.log2(bytes)));
    let size = block;
    while ((this.#free.get(size)?.length ?? 0) === 0) size *= 2;
    const offset = this.#free.get(size)?.pop() ?? 0;
    while (size > block) {
      size /= 2;
      this.#list(size).push(offset + size);
    }
    this.#heaps.add(Math.floor(offset / heapBytes));
    return { bytes, offset };
  }

  release({ bytes, offset }: DeviceBuffer): void {
    if (offset === null) return this.giveBack(bytes);
    let size = Math.max(granularity, 2 ** Math.ceil(Math.log2(bytes)));
    let start = offset;
    for (;;) {
      const list = this.#list(size);
      const buddy = list.indexOf(start % (2 * size) === 0 ? start + size : start - size);
      if (buddy < 0) {
        list.push(start);
        return;
      }
      list.splice(buddy, 1);
      start -= start % (2 * size);
      size *= 2;
    }
  }

  #list(size: number): number[] {
    const known = this.#free.get(size);
    if (known) return known;
    const list: number[] = [];
    this.#free.set(size, list);
    return list;
  }
}

export interface DeviceBuffer {
  readonly bytes: number;
  /** Place in the heaps; null for memory of its own. */
  readonly offset: number | null;
}
