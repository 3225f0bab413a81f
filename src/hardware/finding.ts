import type { GpuReading } from '../contract/types.js';

/** A GPU as one source saw it, before names, providers and times are joined in. */
export type Finding = Omit<
  GpuReading,
  'providers' | 'readAt' | 'name' | 'address' | 'heldByOthersBytes' | 'heldByUsBytes'
> & {
  /** Null when the memory source knows no name. */
  name: string | null;
  /** PCI address `0000:03:00.0`, null where there is none. */
  bus: string | null;
  /** Key of Windows's usage counters (`luidKey`); null or absent elsewhere. */
  luid?: string | null;
  /** In use by all programs. Absent: total less free, where both are known; null: not told. */
  usedBytes?: number | null;
  /** Of that, in use by Snug's own processes; absent or null: not told. */
  oursBytes?: number | null;
};

/** What one platform's sources found, and what to tell about sources that did not answer. */
export interface Findings {
  gpus: Finding[];
  notes: string[];
}

/** Sentence for a GPU whose use by other programs could not be read. */
export const freeUnknown = 'How much of it is free could not be read.';

/** No device has this much; larger figures are broken counters. */
const mostBytes = 2 ** 50;

/** A total that can be believed, else null: zero means "not told", not "has none". */
export function saneTotal(bytes: number | null): number | null {
  return bytes !== null && Number.isFinite(bytes) && bytes > 0 && bytes < mostBytes ? bytes : null;
}

/**
 * Free bytes out of whatever the source told. Free 0 stays 0 (a full card is full); without a free figure,
 * total - used; never above the total, never below 0; null when nothing was told.
 */
export function freeFrom(figures: { total: number | null; free: number | null; used: number | null }): number | null {
  const { total, free, used } = figures;
  const known = free ?? (total !== null && used !== null ? total - used : null);
  if (known === null || !Number.isFinite(known)) return null;
  return Math.max(0, total === null ? known : Math.min(total, known));
}

/** Whole number of bytes in decimal or 0x-hexadecimal as sysfs and the registry print it; null for anything else. */
export function parseByteCount(text: string | null | undefined): number | null {
  const match = /^\s*(0x[0-9a-f]{1,16}|\d{1,19})\s*$/i.exec(text ?? '');
  if (match?.[1] === undefined) return null;
  const value = Number(match[1]);
  return Number.isSafeInteger(value) ? value : null;
}

/** `00000000:01:00.0` (nvidia-smi), `01:00.0` (lspci) and `0000:01:00.0` (kernel) → `0000:01:00.0`; else null. */
export function normalBus(text: string | null | undefined): string | null {
  const match = /^(?:[0-9a-f]*?([0-9a-f]{1,4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i.exec((text ?? '').trim());
  if (!match) return null;
  const [, domain = '0', bus, device, fn] = match;
  return `${domain.padStart(4, '0')}:${bus}:${device}.${fn}`.toLowerCase();
}

const virtualNames =
  /llvmpipe|softpipe|swiftshader|basic (display|render)|remote display|virtual|virtio|vmware|svga|\bqxl\b|hyper-v|parsec|idd(sample|driver)|displaylink|citrix|aspeed|matrox|cirrus|bochs|standard vga/i;

/** Display adapters that cannot compute: drawn by the processor, by a remote session or by a server's console chip. */
export function isVirtualAdapter(name: string): boolean {
  return virtualNames.test(name);
}

/** Vendor out of a PCI vendor number or a marketing name. */
export function vendorOf(pciVendor: number | null, name: string): GpuReading['vendor'] {
  if (pciVendor === 0x10de || /nvidia|geforce|quadro|tesla/i.test(name)) return 'nvidia';
  if (pciVendor === 0x1002 || pciVendor === 0x1022 || /\bamd\b|\bati\b|radeon|advanced micro/i.test(name)) return 'amd';
  if (pciVendor === 0x8086 || /intel/i.test(name)) return 'intel';
  if (pciVendor === 0x106b || /\bapple\b/i.test(name)) return 'apple';
  return 'other';
}

/**
 * Whether a GPU has no memory of its own, told by vendor and marketing name where the system does not say.
 * Intel: all but Arc A/B cards, Data Center cards and Iris Xe MAX. AMD: the names of processor graphics
 * (`Radeon Graphics`, `Radeon 780M`, `Radeon Vega 8 Graphics`). Anything but NVIDIA, AMD, Intel: a system on chip.
 */
export function isIntegrated(vendor: GpuReading['vendor'], name: string): boolean {
  if (vendor === 'nvidia') return isUnifiedNvidia(name);
  if (vendor === 'intel') return !/\barc\b.*\b[AB]\d{2,3}M?\b|data center gpu|iris.*\bmax\b/i.test(name);
  if (vendor === 'amd') {
    return /radeon(\(tm\))? (\d{3,4}[MS]\b|graphics|vega \d+|rx vega \d+ graphics|r\d graphics)/i.test(name);
  }
  return true;
}

/** NVIDIA chips that share the computer's memory; their driver answers `[N/A]` for every memory figure. */
export function isUnifiedNvidia(name: string): boolean {
  return /\bGB10\b|\bN1X?\b|jetson|tegra|nvgpu|\borin\b|\bxavier\b|\bthor\b/i.test(name);
}
