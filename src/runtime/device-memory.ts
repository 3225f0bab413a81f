import { readdir, readFile } from 'node:fs/promises';
import { softwareVulkanBytes, withOwnMemory } from './device-memory-software.js';

/**
 * Allocator settings under which the memory of a process can be told apart on Linux (glibc): blocks from
 * 64 KiB are mappings of their own that vanish when freed, everything small stays in the one heap. A graphics
 * driver that computes on the CPU takes device memory in large blocks and compiles its kernels in small ones.
 */
export const separatingEnv: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '65536',
  MALLOC_TOP_PAD_: '4096',
};

/**
 * Mappings resident below this share of their size hold no buffers: a software driver runs shaders on fibers and
 * maps their stacks in one piece, of which each fiber touches a few pages (2.7 % was measured on SwiftShader, in
 * mappings of up to 207 MB). A buffer is touched from end to end.
 */
const leastResidentShare = 0.05;

/**
 * Resident bytes of nameless private mappings in the text of `/proc/self/smaps`: neither program code, nor
 * the heap, nor compiled kernels, nor stacks that were mapped ahead.
 */
export function anonymousBytes(smaps: string): number {
  let counted = false;
  let size = 0;
  let kilobytes = 0;
  for (const line of smaps.split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (mapping) {
      counted = mapping[1] === 'rw-p' && mapping[2] === '';
    } else if (counted && line.startsWith('Size:')) {
      size = Number(/\d+/.exec(line)?.[0] ?? 0);
    } else if (counted && line.startsWith('Rss:')) {
      const resident = Number(/\d+/.exec(line)?.[0] ?? 0);
      if (resident >= size * leastResidentShare) kilobytes += resident;
    }
  }
  return kilobytes * 1024;
}

/**
 * Bytes resident in graphics memory by the texts of `/proc/self/fdinfo/*` (kernel document
 * drm-usage-stats): `drm-resident-<region>`, else the older `drm-memory-<region>`. A client that is open
 * several times is counted once.
 */
export function drmBytes(fdinfos: readonly string[]): number {
  const clients = new Map<string, number>();
  for (const text of fdinfos) {
    const id = /^drm-client-id:\s*(\d+)/m.exec(text)?.[1];
    if (id === undefined) continue;
    const device = /^drm-pdev:\s*(\S+)/m.exec(text)?.[1] ?? '';
    const resident = sumOf(text, /^drm-resident-[^:]+:\s*(\d+)\s*(KiB|MiB)?/gm);
    clients.set(`${device} ${id}`, resident ?? sumOf(text, /^drm-memory-[^:]+:\s*(\d+)\s*(KiB|MiB)?/gm) ?? 0);
  }
  return [...clients.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function sumOf(text: string, pattern: RegExp): number | null {
  const factors: Record<string, number> = { KiB: 1024, MiB: 1024 * 1024 };
  const amounts = [...text.matchAll(pattern)].map(([, amount, unit]) => Number(amount) * (factors[unit ?? ''] ?? 1));
  return amounts.length === 0 ? null : amounts.reduce((sum, amount) => sum + amount, 0);
}

/** How the level is read: the first that sees anything when a device is in use. */
type Source = 'software' | 'drm' | 'anonymous' | 'resident';

/**
 * What this process holds for its device, bytes; only differences of readings of one meter mean something. Made
 * when a session is already on the device, because the first reading decides where to look: the memory blocks of a
 * Vulkan driver that computes on the CPU ({@link softwareVulkanBytes}), else what a kernel driver counts for the
 * process, else (Linux) large private memory, else the resident set.
 */
export class DeviceMeter {
  #source: Source | null = null;
  readonly #barren = new Set<string>();

  async level(): Promise<number> {
    this.#source ??= await this.#findSource();
    return this.#read(this.#source);
  }

  async #findSource(): Promise<Source> {
    for (const source of ['software', 'drm', 'anonymous'] as const) if ((await this.#read(source)) > 0) return source;
    return 'resident';
  }

  async #read(source: Source): Promise<number> {
    switch (source) {
      case 'software':
        return withOwnMemory((memory) => softwareVulkanBytes(memory, this.#barren)) ?? 0;
      case 'drm':
        return drmBytes(await readFdinfos());
      case 'anonymous':
        return anonymousBytes(await readSmaps());
      case 'resident':
        return process.memoryUsage.rss();
    }
  }
}

/** Empty where the system has no `/proc`. */
async function readSmaps(): Promise<string> {
  try {
    return await readFile('/proc/self/smaps', 'utf8');
  } catch {
    return '';
  }
}

async function readFdinfos(): Promise<string[]> {
  const texts: string[] = [];
  for (const fd of await readdir('/proc/self/fdinfo').catch((): string[] => [])) {
    try {
      texts.push(await readFile(`/proc/self/fdinfo/${fd}`, 'utf8'));
    } catch {
      // Closed since the folder was listed.
    }
  }
  return texts;
}
