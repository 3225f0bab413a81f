import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** A part of the address space that the process may read and write and that no file backs. */
export interface MemoryRegion {
  start: number;
  end: number;
  /** The heap that grows by `brk`; all others were mapped on their own. */
  heap: boolean;
}

export interface ProcessMemory {
  regions: readonly MemoryRegion[];
  /** Copies `length` bytes from `address`; fewer when the memory ends before. */
  read(address: number, length: number): Buffer;
}

const page = 4096;
const window = 2 ** 20;
/** glibc: a chunk starts with the size of its neighbour and its own, whose low bits are flags. */
const chunkHeader = 16;
const flags = 7;
const mappedFlag = 2;
const previousInUse = 1;
/** Vulkan memory of SwiftShader is aligned so, and the word before it points to the block it was cut from. */
const alignment = 256;
const pointer = 8;
/** Smaller blocks cannot be told from the driver's own objects. */
const leastBytes = 1024;

function align(address: number): number {
  return Math.ceil((address + pointer) / alignment) * alignment;
}

/** Reads words through a window, so that neighbours cost no further system call. */
class Reader {
  private at = 0;
  private bytes: Buffer = Buffer.alloc(0);

  constructor(private readonly memory: ProcessMemory) {}

  /** Value of the 8 bytes at `address`; NaN where nothing can be read. */
  word(address: number, span: number): number {
    let offset = address - this.at;
    if (offset < 0 || offset + 8 > this.bytes.length) {
      this.at = address;
      this.bytes = this.memory.read(address, Math.max(span, 8));
      offset = 0;
      if (this.bytes.length < 8) return NaN;
    }
    return this.bytes.readUInt32LE(offset) + this.bytes.readUInt32LE(offset + 4) * 2 ** 32;
  }
}

/** Bytes of Vulkan memory in the allocation that starts at `block`, 0 when it is something else. */
function vulkanBytes(reader: Reader, block: number, usable: number, span: number): number {
  const aligned = align(block);
  const bytes = usable - pointer - alignment;
  return bytes >= leastBytes && reader.word(aligned - pointer, span) === block ? bytes : 0;
}

/** Walks the chunks of glibc's heap from its first to its last. */
function heapBytes(reader: Reader, { start, end }: MemoryRegion): number {
  let total = 0;
  for (let chunk = start; chunk + chunkHeader < end;) {
    const word = reader.word(chunk + 8, window);
    const size = word - (word % (flags + 1));
    if (!(size >= 2 * chunkHeader) || chunk + size > end) break;
    const used = chunk + size + chunkHeader <= end && reader.word(chunk + size + 8, window) % 2 === previousInUse;
    if (used) {
      const bytes = vulkanBytes(reader, chunk + chunkHeader, size - chunkHeader + pointer, window);
      total += Math.floor(bytes / 16) * 16;
    }
    chunk += size;
  }
  return total;
}

/** Finds allocations that glibc mapped on their own; the kernel may have joined several to one region. */
function mappedBytes(reader: Reader, { start, end }: MemoryRegion): number {
  let total = 0;
  for (let address = start; address < end;) {
    const word = reader.word(address + 8, alignment + chunkHeader);
    const size = word - mappedFlag;
    if (size > 0 && size % page === 0 && address + size <= end && reader.word(address, chunkHeader) === 0) {
      const bytes = vulkanBytes(reader, address + chunkHeader, size - chunkHeader, alignment);
      total += Math.floor(bytes / page) * page;
      address += size;
    } else {
      address += page;
    }
  }
  return total;
}

/**
 * Bytes of Vulkan memory in this process when SwiftShader, a driver that computes on the CPU, is the device: it
 * takes each `VkDeviceMemory` as one block from glibc's allocator, and the block can be recognised by the pointer
 * before its first byte. Shader stacks, compiled kernels and JavaScript are left out, so small models can be
 * measured too. Blocks under 1 KiB are not seen; of blocks mapped on their own, less than a page each is missed.
 * @param barren regions found to hold no block, kept between calls and skipped as long as they stay the same.
 */
export function softwareVulkanBytes(memory: ProcessMemory, barren: Set<string> = new Set()): number {
  const reader = new Reader(memory);
  let total = 0;
  for (const region of memory.regions) {
    if (region.heap) {
      total += heapBytes(reader, region);
      continue;
    }
    const key = `${region.start}-${region.end}`;
    if (barren.has(key)) continue;
    const bytes = mappedBytes(reader, region);
    if (bytes === 0) barren.add(key);
    total += bytes;
  }
  return total;
}

/** Regions named in the text of `/proc/<pid>/maps` that may hold allocations. */
export function allocatedRegions(maps: string): MemoryRegion[] {
  const regions: MemoryRegion[] = [];
  for (const line of maps.split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (!match || (match[3] !== '' && match[3] !== '[heap]')) continue;
    regions.push({ start: parseInt(match[1] ?? '', 16), end: parseInt(match[2] ?? '', 16), heap: match[3] !== '' });
  }
  return regions;
}

/**
 * What this process reads its own memory into. The buffers are part of that memory: a copy of the pointer to the large
 * one, left in it at the place where a driver's block has its own, would count as 1 MiB of Vulkan memory. There is
 * only one of each, and the large one is emptied before mappings are looked at, for which the small one does.
 */
class OwnBuffers {
  readonly #small = Buffer.alloc(page);
  readonly #large = Buffer.alloc(window);
  #used = false;

  take(length: number): Buffer {
    if (length > page) {
      this.#used = true;
      return this.#large.subarray(0, Math.min(length, window));
    }
    if (this.#used) this.#large.fill(0);
    this.#used = false;
    return this.#small.subarray(0, length);
  }
}

const ownBuffers = new OwnBuffers();

/** Calls `use` with the memory of this process; null where the system has no such files or forbids it. */
export function withOwnMemory<T>(use: (memory: ProcessMemory) => T): T | null {
  let file: number;
  let regions: MemoryRegion[];
  try {
    regions = allocatedRegions(readFileSync('/proc/self/maps', 'utf8'));
    file = openSync('/proc/self/mem', 'r');
  } catch {
    return null;
  }
  const read = (address: number, length: number): Buffer => {
    const bytes = ownBuffers.take(length);
    try {
      return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, address));
    } catch {
      // Unmapped since the regions were listed.
      return bytes.subarray(0, 0);
    }
  };
  try {
    return use({ regions, read });
  } finally {
    closeSync(file);
  }
}
