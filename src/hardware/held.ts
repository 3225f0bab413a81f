import type { GpuReading } from '../contract/types.js';
import { drmHeldBy } from './fdinfo.js';
import { type Finding, freeUnknown } from './finding.js';
import type { DrmCard } from './linux.js';
import { type NvidiaAnswers, nvidiaHeldBy } from './nvidia.js';
import type { Probe } from './probe.js';
import { processTree, withDescendants } from './processes.js';
import type { WindowsAnswers } from './windows.js';

/** Who holds a device's memory. */
export type Held = Pick<GpuReading, 'heldByOthersBytes' | 'heldByUsBytes'>;

/** Sentence for a use that was summed over processes. */
const lowerBound = 'Programs of other users may hold more than is counted here.';

/** Splits what is in use into ours and others'; where ours is not told, all of it counts as others'. */
export function splitUse({ totalBytes, freeBytes, usedBytes, oursBytes = null }: Finding): Held {
  const rest = totalBytes === null || freeBytes === null ? null : totalBytes - freeBytes;
  const used = usedBytes === undefined ? rest : usedBytes;
  // The two figures are a moment apart, so ours may be the larger one.
  const heldByOthersBytes = used === null ? null : Math.max(0, used - (oursBytes ?? 0));
  return { heldByOthersBytes, heldByUsBytes: oursBytes };
}

/** What `roots` and all they started hold on each Linux GPU, by PCI address; null where no source tells. */
export async function linuxHeld(
  probe: Probe,
  roots: readonly number[],
  nvidia: NvidiaAnswers,
): Promise<(finding: Finding) => number | null> {
  const pids = await processTree(probe, roots);
  const drm = await drmHeldBy(probe, pids);
  return (finding) => {
    if (finding.vendor === 'nvidia') {
      const row = nvidia.rows.find(({ bus }) => bus === finding.bus);
      if (!row || !nvidia.processes) return null;
      // The driver tells no figure for itself where the GPU shares the computer's memory.
      return finding.shared && !nvidia.processes.some(({ bus }) => bus === row.bus)
        ? null
        : nvidiaHeldBy(row, nvidia.processes, pids);
    }
    if (finding.bus === null || finding.totalBytes === null) return null;
    const held = drm.get(finding.bus) ?? { ownBytes: 0, systemBytes: 0 };
    return finding.shared ? held.ownBytes + held.systemBytes : held.ownBytes;
  };
}

/** The same on Windows, where the counters of every program's use carry the adapter's LUID. */
export function windowsHeld(answers: WindowsAnswers, roots: readonly number[]): (finding: Finding) => number | null {
  const pids = new Set(withDescendants(roots, answers.links));
  return (finding) => {
    if (answers.processes.length === 0 || !finding.luid) return null;
    return answers.processes
      .filter(({ luid, pid }) => luid === finding.luid && pids.has(pid))
      .reduce((sum, row) => sum + row.dedicatedBytes + (finding.shared ? row.sharedBytes : 0), 0);
  };
}

/**
 * Bytes in use on each Intel card, by PCI address, as the sum over all processes that let themselves be read: its
 * xe driver counts by open file only. Empty where no card needs it, since it means to read all of /proc.
 */
export async function readableUse(probe: Probe, cards: readonly DrmCard[]): Promise<Map<string, number>> {
  const needed = cards.some(({ driver, files }) => driver === 'xe' && files.tileVram.length > 0);
  if (!needed) return new Map();
  const pids = (await probe.list('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const held = await drmHeldBy(probe, pids);
  return new Map([...held].map(([bus, { ownBytes }]) => [bus, ownBytes]));
}

/** Puts {@link readableUse} on a finding whose own source tells its size but not its use. */
export function withReadableUse(finding: Finding, use: ReadonlyMap<string, number>): Finding {
  const usedBytes = use.get(finding.bus ?? '');
  if (usedBytes === undefined || finding.totalBytes === null || finding.freeBytes !== null) return finding;
  return {
    ...finding,
    usedBytes,
    freeBytes: Math.max(0, finding.totalBytes - usedBytes),
    source: `${finding.source}, fdinfo`,
    notes: [...finding.notes.filter((note) => note !== freeUnknown), lowerBound],
  };
}
