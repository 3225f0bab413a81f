import type { GpuReading, HardwareReading } from '../../src/contract/types.js';

/** Sizes people buy, in GB (10^9 bytes), for "plan for another GPU". */
export const presetGigabytes = [4, 6, 8, 12, 16, 24] as const;

export const ramDeviceId = 'ram';
export const manualDeviceId = 'manual';

/** A device that exists only as a number: someone else's GPU. */
export function manualDevice(totalBytes: number): GpuReading {
  return {
    id: manualDeviceId,
    name: '',
    vendor: 'other',
    totalBytes,
    freeBytes: totalBytes,
    heldByOthersBytes: null,
    heldByUsBytes: null,
    address: null,
    shared: false,
    source: '',
    confidence: 'reported',
    providers: [],
    readAt: Date.now(),
    notes: [],
  };
}

/** Devices in the order of the picker: GPUs with their own memory, shared ones, then the computer's RAM. */
export function deviceList(hardware: HardwareReading): GpuReading[] {
  const ram: GpuReading = {
    id: ramDeviceId,
    name: hardware.cpu.name,
    vendor: 'none',
    totalBytes: hardware.ram.totalBytes,
    freeBytes: hardware.ram.freeBytes,
    heldByOthersBytes: null,
    heldByUsBytes: hardware.ram.heldByUsBytes,
    address: null,
    shared: true,
    source: '',
    confidence: 'measured',
    providers: ['cpu'],
    readAt: Date.now(),
    notes: [],
  };
  const gpus = hardware.gpus.filter((gpu) => gpu.id !== ramDeviceId);
  const known = hardware.gpus.find((gpu) => gpu.id === ramDeviceId);
  return [...gpus.filter((gpu) => !gpu.shared), ...gpus.filter((gpu) => gpu.shared), known ?? ram];
}

/** The device Snug starts with: the GPU with the most memory whose memory is known, else RAM. */
export function preferredDevice(devices: GpuReading[]): GpuReading | null {
  const sized = devices.filter((device) => device.id !== ramDeviceId && device.totalBytes !== null);
  const best = sized.toSorted((a, b) => (b.totalBytes ?? 0) - (a.totalBytes ?? 0))[0];
  return best ?? devices.find((device) => device.id === ramDeviceId) ?? devices[0] ?? null;
}

/**
 * Bytes Snug leaves alone so that the desktop and a growing neighbour have room. The same rule as the engine's
 * own default budget: 5 % of the device's own memory (0.25 to 2 GB), 10 % of shared memory (0.5 to 4 GB).
 */
export function keptFreeBytes(device: GpuReading): number {
  const size = device.totalBytes ?? device.freeBytes ?? 0;
  const [share, least, most] = device.shared ? [0.1, 0.5e9, 4e9] : [0.05, 0.25e9, 2e9];
  return Math.round(Math.min(most, Math.max(least, size * share)));
}

/** What is free, as read or, with only the total known, as the engine takes it; null when nothing is known. */
export function freeBytesOf(device: GpuReading): number | null {
  const { totalBytes, freeBytes } = device;
  if (freeBytes !== null) return freeBytes;
  return totalBytes === null ? null : totalBytes - Math.min(1e9, totalBytes / 4);
}

/** What Snug may use unless the user says otherwise; null when the device's memory is not known. */
export function defaultBudgetBytes(device: GpuReading): number | null {
  const free = freeBytesOf(device);
  return free === null ? null : Math.max(0, Math.floor(free - keptFreeBytes(device)));
}

/** Bytes other programs hold; null when only one of total and free is known. */
export function othersBytes(device: GpuReading): number | null {
  return device.totalBytes === null || device.freeBytes === null
    ? null
    : Math.max(0, device.totalBytes - device.freeBytes);
}
