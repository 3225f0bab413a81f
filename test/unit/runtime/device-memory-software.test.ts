import { describe, expect, it } from 'vitest';
import {
  allocatedRegions,
  softwareVulkanBytes,
  type MemoryRegion,
  type ProcessMemory,
} from '../../../src/runtime/device-memory-software.js';

const page = 4096;

/** Address space of a process, written word by word. */
class FakeMemory implements ProcessMemory {
  readonly regions: MemoryRegion[] = [];
  reads = 0;
  private readonly words = new Map<number, number>();

  read(address: number, length: number): Buffer {
    this.reads += 1;
    const region = this.regions.find(({ start, end }) => address >= start && address < end);
    const bytes = Buffer.alloc(region ? Math.min(length, region.end - address) : 0);
    for (let at = 0; at + 8 <= bytes.length; at += 8) {
      const word = this.words.get(address + at) ?? 0;
      bytes.writeUInt32LE(word % 2 ** 32, at);
      bytes.writeUInt32LE(Math.floor(word / 2 ** 32), at + 4);
    }
    return bytes;
  }

  set(address: number, word: number): void {
    this.words.set(address, word);
  }

  region(start: number, bytes: number, heap = false): void {
    this.regions.push({ start, end: start + bytes, heap });
  }

  /** An allocation that glibc mapped on its own; returns where the next one would start. */
  mapped(start: number, bytes: number, vulkan: boolean): number {
    const size = Math.ceil((bytes + 16 + 264) / page) * page;
    this.set(start + 8, size + 2);
    if (vulkan) this.set(start + 0xf8, start + 16);
    return start + size;
  }

  /** A chunk of the heap; `used` is written into the chunk behind it. */
  chunk(start: number, bytes: number, vulkan: boolean, previousUsed: boolean): number {
    const size = Math.ceil((bytes + 264 + 8) / 16) * 16;
    this.set(start + 8, size + (previousUsed ? 1 : 0));
    const block = start + 16;
    if (vulkan) this.set(Math.ceil((block + 8) / 256) * 256 - 8, block);
    return start + size;
  }
}

describe('memory of a Vulkan driver that computes on the CPU', () => {
  it('finds mapped blocks, joined to one region or apart, among other mappings', () => {
    const memory = new FakeMemory();
    const base = 0x7f00_0000_0000;
    let next = memory.mapped(base, 8 * 2 ** 20, true);
    next = memory.mapped(next, 3 * 2 ** 20, false);
    next = memory.mapped(next + 5 * page, 160 * page, true);
    memory.region(base, next - base + 9 * page);
    memory.region(0x7e00_0000_0000, 64 * page);
    expect(softwareVulkanBytes(memory)).toBe(8 * 2 ** 20 + 160 * page);
  });

  it('walks the heap and counts used blocks of 1 KiB or more', () => {
    const memory = new FakeMemory();
    const base = 0x6000_0000;
    let next = memory.chunk(base, 131072, true, true);
    next = memory.chunk(next, 5000, false, true);
    next = memory.chunk(next, 10240, true, true);
    next = memory.chunk(next, 4096, true, true); // freed: the chunk behind says so
    next = memory.chunk(next, 48, true, false);
    next = memory.chunk(next, 2048, true, true);
    memory.chunk(next, 100, false, true);
    memory.region(base, 2 ** 20, true);
    expect(softwareVulkanBytes(memory)).toBe(131072 + 10240 + 2048);
  });

  it('ends at a damaged chunk instead of running on', () => {
    const memory = new FakeMemory();
    memory.region(0x6000_0000, page, true);
    memory.set(0x6000_0008, 2 ** 40);
    expect(softwareVulkanBytes(memory)).toBe(0);
  });

  it('looks again only at regions that changed or held blocks', () => {
    const memory = new FakeMemory();
    const held = memory.mapped(0x7000_0000, 2 ** 20, true);
    memory.region(0x7000_0000, held - 0x7000_0000);
    memory.region(0x7100_0000, 100 * page);
    const barren = new Set<string>();
    softwareVulkanBytes(memory, barren);
    const first = memory.reads;
    expect(softwareVulkanBytes(memory, barren)).toBe(2 ** 20);
    expect(memory.reads - first).toBeLessThan(first - 90);
  });

  it('takes private, writable, nameless regions and the heap from the list of mappings', () => {
    const maps = [
      '00400000-00500000 r-xp 00000000 08:01 12                         /usr/bin/node',
      '06000000-06100000 rw-p 00000000 00:00 0                          [heap]',
      '7f0000000000-7f0000002000 rw-p 00000000 00:00 0 ',
      '7f0000004000-7f0000005000 ---p 00000000 00:00 0 ',
      '7f0000006000-7f0000007000 rw-s 00000000 00:01 77                 /memfd:jit (deleted)',
      '7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                  [stack]',
    ].join('\n');
    expect(allocatedRegions(maps)).toEqual([
      { start: 0x6000000, end: 0x6100000, heap: true },
      { start: 0x7f0000000000, end: 0x7f0000002000, heap: false },
    ]);
  });
});
