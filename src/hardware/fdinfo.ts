import { normalBus } from './finding.js';
import type { Probe } from './probe.js';

/** Bytes a process's open device files hold on one GPU, by kind of memory. */
export interface DrmHeld {
  /** On the card itself: amdgpu `vram`, xe `vram0`, i915 `local0`. */
  ownBytes: number;
  /** Of the computer's memory: amdgpu `gtt`, xe `gtt`/`system`, i915 `system0`. */
  systemBytes: number;
}

/** One `/proc/<pid>/fdinfo/<fd>` of a graphics device (kernel document drm-usage-stats). */
export interface DrmClient extends DrmHeld {
  /** PCI address. */
  bus: string;
  /** The same number on several file descriptors is the same memory. */
  client: string;
}

const factors: Record<string, number> = { '': 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/**
 * Text of one fdinfo file → what the client holds; null for other files and for drivers that tell no memory (the
 * NVIDIA driver). `drm-resident-` is what lies there now; older kernels have `drm-total-` or only amdgpu's
 * `drm-memory-`. Without a unit the number is in bytes.
 */
export function parseFdinfo(text: string): DrmClient | null {
  const bus = normalBus(/^drm-pdev:\s*(\S+)/m.exec(text)?.[1]);
  const client = /^drm-client-id:\s*(\d{1,20})/m.exec(text)?.[1];
  if (bus === null || client === undefined) return null;
  for (const key of ['resident', 'total', 'memory']) {
    const regions = [
      ...text.matchAll(new RegExp(`^drm-${key}-([a-z]+)\\d*:\\s*(\\d{1,15})(?: (KiB|MiB|GiB))?\\s*$`, 'gm')),
    ];
    if (regions.length === 0) continue;
    const held: DrmHeld = { ownBytes: 0, systemBytes: 0 };
    for (const [, region, amount, unit] of regions) {
      const bytes = Number(amount) * (factors[unit ?? ''] ?? 1);
      if (region === 'vram' || region === 'local') held.ownBytes += bytes;
      // amdgpu's `cpu` is memory that was moved out of the device's reach; other names are caches on the chip.
      else if (region === 'gtt' || region === 'system') held.systemBytes += bytes;
    }
    return { bus, client, ...held };
  }
  return null;
}

/** Clients → bytes by PCI address; a client that is open several times, in one process or in two, counts once. */
export function sumClients(clients: readonly DrmClient[]): Map<string, DrmHeld> {
  const once = new Map(clients.map((client) => [`${client.bus} ${client.client}`, client]));
  const held = new Map<string, DrmHeld>();
  for (const { bus, ownBytes, systemBytes } of once.values()) {
    const sum = held.get(bus) ?? { ownBytes: 0, systemBytes: 0 };
    held.set(bus, { ownBytes: sum.ownBytes + ownBytes, systemBytes: sum.systemBytes + systemBytes });
  }
  return held;
}

/** What `pids` hold on every GPU of the kernel's graphics drivers. Processes of other users tell nothing. */
export async function drmHeldBy(
  probe: Pick<Probe, 'list' | 'readText'>,
  pids: readonly number[],
): Promise<Map<string, DrmHeld>> {
  const texts = await Promise.all(
    pids.map(async (pid) => {
      const folder = `/proc/${pid}/fdinfo`;
      return Promise.all((await probe.list(folder)).map((fd) => probe.readText(`${folder}/${fd}`)));
    }),
  );
  return sumClients(texts.flat().flatMap((text) => (text === null ? [] : (parseFdinfo(text) ?? []))));
}
