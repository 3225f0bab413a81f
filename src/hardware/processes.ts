import type { Probe } from './probe.js';

/** A process and the one that started it. */
export interface ProcessLink {
  pid: number;
  parent: number;
}

/** `ps -axo pid=,ppid=` (macOS and BSD) → links. */
export function parsePsLinks(text: string): ProcessLink[] {
  return [...text.matchAll(/^\s*(\d{1,10})\s+(\d{1,10})\s*$/gm)].map(([, pid, parent]) => ({
    pid: Number(pid),
    parent: Number(parent),
  }));
}

/** `ps -o pid=,rss= -p …` → resident bytes of the processes that are still there (`rss` is in KiB). */
export function parsePsResident(text: string): number {
  return [...text.matchAll(/^\s*\d{1,10}\s+(\d{1,12})\s*$/gm)].reduce((sum, [, kib]) => sum + Number(kib) * 1024, 0);
}

/** `/proc/<pid>/status` → resident bytes; 0 for a process without memory (a zombie) or one that is gone. */
export function parseResident(status: string | null): number {
  return Number(/^VmRSS:\s+(\d{1,12}) kB/m.exec(status ?? '')?.[1] ?? 0) * 1024;
}

/** `roots` and all they started, directly or not. A process id that came round again makes no circle. */
export function withDescendants(roots: readonly number[], links: readonly ProcessLink[]): number[] {
  const tree = new Set(roots);
  for (let size = -1; size !== tree.size;) {
    size = tree.size;
    for (const { pid, parent } of links) if (tree.has(parent)) tree.add(pid);
  }
  return [...tree];
}

/**
 * The processes `roots` and all they started. Linux reads each process's own list of children; where the kernel
 * keeps none, and on systems where asking is dear, the roots alone are the answer.
 */
export async function processTree(
  probe: Pick<Probe, 'platform' | 'exec' | 'list' | 'readText'>,
  roots: readonly number[],
): Promise<number[]> {
  if (probe.platform === 'linux') {
    const tree = new Set<number>();
    const visit = async (pid: number): Promise<void> => {
      if (tree.has(pid)) return;
      tree.add(pid);
      const threads = await probe.list(`/proc/${pid}/task`);
      const lists = await Promise.all(threads.map((thread) => probe.readText(`/proc/${pid}/task/${thread}/children`)));
      const children = lists.flatMap((list) => (list ?? '').split(' ').filter((id) => /^\d+$/.test(id)));
      await Promise.all(children.map((id) => visit(Number(id))));
    };
    await Promise.all(roots.map(visit));
    return [...tree];
  }
  if (probe.platform === 'darwin') {
    const { stdout } = await probe.exec('/bin/ps', ['-axo', 'pid=,ppid='], 1000);
    return withDescendants(roots, parsePsLinks(stdout));
  }
  return [...roots];
}

/** Resident bytes of processes together; null where the system does not tell. Pages they share count in each. */
export async function residentBytes(
  probe: Pick<Probe, 'platform' | 'exec' | 'readText'>,
  pids: readonly number[],
): Promise<number | null> {
  if (probe.platform === 'linux') {
    const texts = await Promise.all(pids.map((pid) => probe.readText(`/proc/${pid}/status`)));
    if (pids.length > 0 && texts.every((text) => text === null)) return null;
    return texts.reduce<number>((sum, text) => sum + parseResident(text), 0);
  }
  if (probe.platform !== 'darwin') return null;
  if (pids.length === 0) return 0;
  const { stdout, failure } = await probe.exec('/bin/ps', ['-o', 'pid=,rss=', '-p', pids.join(',')], 1000);
  return failure === 'timeout' || failure === 'missing' ? null : parsePsResident(stdout);
}
