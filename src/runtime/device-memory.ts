import { readdir, readFile } from 'node:fs/promises';

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

/**
 * What this process holds for its device now, bytes; only differences of it mean something. On Linux large
 * private memory (devices that compute on the CPU or share its memory) plus what the graphics driver counts
 * for the process; elsewhere the resident set.
 */
export async function deviceLevel(): Promise<number> {
  let smaps: string;
  try {
    smaps = await readFile('/proc/self/smaps', 'utf8');
  } catch {
    // No /proc: another system.
    return process.memoryUsage.rss();
  }
  return anonymousBytes(smaps) + drmBytes(await readFdinfos());
}

async function readFdinfos(): Promise<string[]> {
  const texts: string[] = [];
  for (const fd of await readdir('/proc/self/fdinfo')) {
    try {
      texts.push(await readFile(`/proc/self/fdinfo/${fd}`, 'utf8'));
    } catch {
      // Closed since the folder was listed.
    }
  }
  return texts;
}
