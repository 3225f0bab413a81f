import {
  type Finding,
  type Findings,
  freeFrom,
  freeUnknown,
  normalBus,
  parseByteCount,
  saneTotal,
  vendorOf,
} from './finding.js';
import type { Probe } from './probe.js';
import type { RamReading } from './ram.js';

/** One GPU of `/sys/class/drm`, as text files read from it (null = absent). */
export interface DrmFiles {
  card: string;
  vendor: string | null;
  uevent: string | null;
  productName: string | null;
  vramTotal: string | null;
  vramUsed: string | null;
  gttTotal: string | null;
  gttUsed: string | null;
  /** i915 discrete cards: `lmem_total_bytes`, `lmem_avail_bytes` of the card folder. */
  lmemTotal: string | null;
  lmemAvailable: string | null;
  /** xe discrete cards: `tile0/physical_vram_size_bytes`, one per tile. */
  tileVram: (string | null)[];
  /** Label of the second voltage of the card's sensor chip; `vddnb` exists on processor graphics only. */
  voltageLabel: string | null;
}

export interface DrmCard {
  card: string;
  bus: string | null;
  driver: string;
  pciVendor: number | null;
  pciDevice: string;
  name: string | null;
  files: DrmFiles;
}

/** PCI vendors of display adapters that cannot compute: QEMU, VirtIO, VMware, VirtualBox, ASPEED, Matrox, Hyper-V. */
const virtualVendors = new Set([0x1234, 0x1af4, 0x1b36, 0x15ad, 0x80ee, 0x1a03, 0x102b, 0x1013, 0x1414]);

/** Files → who the card is; null for display adapters that cannot compute. */
export function parseDrmCard(files: DrmFiles): DrmCard | null {
  const uevent = files.uevent ?? '';
  const value = (key: string) => new RegExp(`^${key}=(.+)$`, 'm').exec(uevent)?.[1]?.trim() ?? '';
  const pciVendor = parseByteCount(files.vendor);
  // Without a PCI vendor it is a display controller of a system on chip or a software device (vkms, simpledrm).
  if (pciVendor === null || virtualVendors.has(pciVendor)) return null;
  return {
    card: files.card,
    bus: normalBus(value('PCI_SLOT_NAME')),
    driver: value('DRIVER'),
    pciVendor,
    pciDevice: value('PCI_ID').split(':')[1] ?? '',
    name: files.productName?.trim() || null,
    files,
  };
}

/** Reads `/sys/class/drm`; the kernel answers without waking the card or needing rights. */
export async function probeDrm(probe: Probe): Promise<DrmCard[]> {
  const cards = (await probe.list('/sys/class/drm')).filter((name) => /^card\d+$/.test(name)).sort();
  const read = await Promise.all(
    cards.map(async (card) => {
      const folder = `/sys/class/drm/${card}`;
      const device = `${folder}/device`;
      const text = (name: string) => probe.readText(`${device}/${name}`);
      const [entries, sensors] = await Promise.all([probe.list(device), probe.list(`${device}/hwmon`)]);
      const tiles = entries.filter((name) => /^tile\d+$/.test(name)).sort();
      const files: DrmFiles = {
        card,
        vendor: await text('vendor'),
        uevent: await text('uevent'),
        productName: await text('product_name'),
        vramTotal: await text('mem_info_vram_total'),
        vramUsed: await text('mem_info_vram_used'),
        gttTotal: await text('mem_info_gtt_total'),
        gttUsed: await text('mem_info_gtt_used'),
        lmemTotal: await probe.readText(`${folder}/lmem_total_bytes`),
        lmemAvailable: await probe.readText(`${folder}/lmem_avail_bytes`),
        tileVram: await Promise.all(tiles.map((tile) => text(`${tile}/physical_vram_size_bytes`))),
        voltageLabel: sensors[0] === undefined ? null : await text(`hwmon/${sensors[0]}/in1_label`),
      };
      return parseDrmCard(files);
    }),
  );
  return read.filter((card) => card !== null);
}

/** Card → finding. NVIDIA cards land here only when their own driver did not answer. */
export function drmFinding(card: DrmCard, ram: RamReading): Finding {
  const vendor = vendorOf(card.pciVendor, card.name ?? '');
  const base = { id: `${vendor}-${card.bus ?? card.card}`, bus: card.bus, name: card.name, vendor };
  if (vendor === 'amd') return { ...base, ...amdMemory(card.files, ram) };
  if (vendor === 'intel') return { ...base, ...intelMemory(card, ram) };
  return {
    ...base,
    totalBytes: null,
    freeBytes: null,
    shared: false,
    source: `Linux kernel (${card.driver || 'drm'})`,
    confidence: 'unknown',
    notes: [
      vendor === 'nvidia'
        ? 'The NVIDIA driver did not tell its memory (nvidia-smi); enter the size by hand.'
        : 'The kernel does not tell this card’s memory; enter the size by hand.',
    ],
  };
}

type MemoryPart = Pick<
  Finding,
  'totalBytes' | 'freeBytes' | 'usedBytes' | 'shared' | 'source' | 'confidence' | 'notes'
>;

function amdMemory(files: DrmFiles, ram: RamReading): MemoryPart {
  const source = 'Linux kernel (amdgpu)';
  const vram = saneTotal(parseByteCount(files.vramTotal));
  const vramUsed = parseByteCount(files.vramUsed);
  const gtt = saneTotal(parseByteCount(files.gttTotal));
  const gttUsed = parseByteCount(files.gttUsed);
  const vramFree = freeFrom({ total: vram, free: null, used: vramUsed });
  if (vram === null) {
    const notes = ['The kernel driver does not tell this card’s memory; enter the size by hand.'];
    return { totalBytes: null, freeBytes: null, shared: false, source, confidence: 'unknown', notes };
  }
  const surelyApu = files.voltageLabel?.trim() === 'vddnb';
  // Kernels without the sensor: no discrete card that amdgpu drives has 512 MiB or less and a larger GTT.
  const likelyApu = vram <= 512 * 1024 * 1024 && gtt !== null && gtt > vram;
  if (!surelyApu && !likelyApu) {
    return {
      totalBytes: vram,
      freeBytes: vramFree,
      usedBytes: vramUsed,
      shared: false,
      source,
      confidence: vramFree === null ? 'reported' : 'measured',
      notes: vramFree === null ? [freeUnknown] : [],
    };
  }
  const gttFree = freeFrom({ total: gtt, free: null, used: gttUsed });
  const freeBytes = vramFree === null || gttFree === null ? null : vramFree + Math.min(gttFree, ram.freeBytes);
  return {
    totalBytes: vram + (gtt ?? 0),
    freeBytes,
    usedBytes: vramUsed === null || gttUsed === null ? null : vramUsed + gttUsed,
    shared: true,
    source,
    confidence: surelyApu ? 'reported' : 'guessed',
    notes: [
      'Graphics in the processor: its own memory plus the part of the computer’s memory the driver may use (GTT).',
      ...(freeBytes === null ? [freeUnknown] : []),
    ],
  };
}

function intelMemory(card: DrmCard, ram: RamReading): MemoryPart {
  const source = `Linux kernel (${card.driver || 'i915'})`;
  const tiles = card.files.tileVram.map(parseByteCount).filter((bytes) => bytes !== null);
  const total = saneTotal(
    parseByteCount(card.files.lmemTotal) ?? (tiles.length > 0 ? tiles.reduce((sum, bytes) => sum + bytes, 0) : null),
  );
  if (total !== null) {
    const freeBytes = freeFrom({ total, free: parseByteCount(card.files.lmemAvailable), used: null });
    const notes = freeBytes === null ? [freeUnknown] : [];
    return {
      totalBytes: total,
      freeBytes,
      shared: false,
      source,
      confidence: freeBytes === null ? 'reported' : 'measured',
      notes,
    };
  }
  // Intel's processor graphics has been device 02.0 of the root bus on every generation so far.
  if (card.bus !== null && card.bus !== '0000:00:02.0') {
    const notes = ['The kernel driver does not tell this card’s memory; enter the size by hand.'];
    return { totalBytes: null, freeBytes: null, shared: false, source, confidence: 'unknown', notes };
  }
  return {
    totalBytes: ram.totalBytes,
    freeBytes: ram.freeBytes,
    shared: true,
    source: ram.source,
    confidence: 'guessed',
    notes: ['Graphics in the processor: it uses the computer’s memory; how much the driver allows is not told.'],
  };
}

/** The NVIDIA driver's findings come first; sysfs cards with the same bus address are the same card. */
export function linuxFindings(nvidia: Finding[], cards: DrmCard[], ram: RamReading): Findings['gpus'] {
  const seen = new Set(nvidia.map((finding) => finding.bus));
  const others = cards.filter((card) => card.bus === null || !seen.has(card.bus)).map((card) => drmFinding(card, ram));
  return [...nvidia, ...others];
}
