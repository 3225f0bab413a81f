/** Alignment and smallest chunk of the arena. */
const alignment = 256;
/** A chunk that would waste this much is split even when it is under twice the request. */
const maxWaste = 128 * 2 ** 20;
const firstRegion = 2 ** 20;
const doubleUntil = 512 * 2 ** 20;
const largestRegion = 2 ** 30;

/** Rounds a size up to what the arena hands out at least. */
export function roundToChunk(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

interface Chunk {
  address: number;
  bytes: number;
  free: boolean;
  previous: Chunk | null;
  next: Chunk | null;
}

/** Handle of an allocation; null stands for the empty allocation. */
export type Allocation = Chunk | null;

/**
 * Best-fit-with-coalescing arena as ONNX Runtime 1.30 uses it for CPU and CUDA tensors (core/framework/bfc_arena;
 * growth by powers of two from 1 MiB, regions never joined). Counts the same things as the runtime's own
 * `mem_*` profile fields; holds no memory itself.
 */
export class Arena {
  /** Bytes of chunks handed out (whole chunks, not requests) and reserved. */
  inUse = 0;
  peak = 0;
  /** Bytes taken from the system. */
  held = 0;
  private nextRegion = firstRegion;
  private nextAddress = 0;
  /** Free chunks by bin (powers of two of the alignment), each sorted by size, then address. */
  private readonly bins: Chunk[][] = Array.from({ length: 21 }, () => []);

  /** Takes exactly `bytes` past the regions; never given back. */
  reserve(bytes: number): void {
    this.inUse += bytes;
    this.held += bytes;
    this.peak = Math.max(this.peak, this.inUse);
  }

  allocate(bytes: number): Allocation {
    if (bytes <= 0) return null;
    const rounded = roundToChunk(bytes);
    const chunk = this.findFree(rounded) ?? this.grow(rounded);
    this.unlist(chunk);
    if (chunk.bytes >= 2 * rounded || chunk.bytes - rounded >= maxWaste) this.split(chunk, rounded);
    chunk.free = false;
    this.inUse += chunk.bytes;
    this.peak = Math.max(this.peak, this.inUse);
    return chunk;
  }

  free(chunk: Allocation): void {
    if (chunk === null) return;
    this.inUse -= chunk.bytes;
    chunk.free = true;
    const { next, previous } = chunk;
    let merged = chunk;
    if (next?.free) {
      this.unlist(next);
      this.join(chunk, next);
    }
    if (previous?.free) {
      this.unlist(previous);
      this.join(previous, chunk);
      merged = previous;
    }
    this.list(merged);
  }

  private static binOf(bytes: number): number {
    return Math.min(20, Math.floor(Math.log2(bytes / alignment)));
  }

  private findFree(rounded: number): Chunk | null {
    for (let bin = Arena.binOf(rounded); bin < this.bins.length; bin += 1) {
      const found = this.bins[bin]?.find((chunk) => chunk.bytes >= rounded);
      if (found) return found;
    }
    return null;
  }

  private grow(rounded: number): Chunk {
    let grew = false;
    while (rounded > this.nextRegion) {
      this.nextRegion *= 2;
      grew = true;
    }
    const bytes = this.nextRegion;
    if (!grew) this.nextRegion = this.nextRegion < doubleUntil ? this.nextRegion * 2 : largestRegion;
    this.held += bytes;
    const chunk: Chunk = { address: this.nextAddress, bytes, free: true, previous: null, next: null };
    this.nextAddress += bytes;
    this.list(chunk);
    return chunk;
  }

  private split(chunk: Chunk, bytes: number): void {
    const rest: Chunk = {
      address: chunk.address + bytes,
      bytes: chunk.bytes - bytes,
      free: true,
      previous: chunk,
      next: chunk.next,
    };
    if (chunk.next) chunk.next.previous = rest;
    chunk.next = rest;
    chunk.bytes = bytes;
    this.list(rest);
  }

  private join(left: Chunk, right: Chunk): void {
    left.bytes += right.bytes;
    left.next = right.next;
    if (right.next) right.next.previous = left;
  }

  private list(chunk: Chunk): void {
    const bin = this.bins[Arena.binOf(chunk.bytes)] ?? [];
    const at = bin.findIndex(
      (other) => other.bytes > chunk.bytes || (other.bytes === chunk.bytes && other.address > chunk.address),
    );
    if (at < 0) bin.push(chunk);
    else bin.splice(at, 0, chunk);
  }

  private unlist(chunk: Chunk): void {
    const bin = this.bins[Arena.binOf(chunk.bytes)] ?? [];
    const at = bin.indexOf(chunk);
    if (at >= 0) bin.splice(at, 1);
  }
}
