import { luidKey } from './registry.js';

/** Bytes in use on one adapter over all programs, summed over its physical parts. */
export interface AdapterUsage {
  luid: string;
  dedicatedBytes: number;
  sharedBytes: number;
}

/** Bytes in use by one process on one adapter. */
export interface ProcessUsage extends AdapterUsage {
  pid: number;
}

/** JSON of one object or a list of them → the objects; anything else is none. */
export function objectsOf(text: string): Record<string, unknown>[] {
  let parsed: unknown;
  try {
    // PowerShell may put a byte order mark in front.
    parsed = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch {
    return [];
  }
  // A list of one comes as the object itself from older PowerShells.
  const list: unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  return list.filter((item): item is Record<string, unknown> => typeof item === 'object' && item !== null);
}

/** A counter's number, which old PowerShells print as text; null for anything else. */
export const numberOf = (value: unknown) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) && number >= 0 ? number : null;
};

/** JSON of `…GPUAdapterMemory`; instances are named `luid_0x00000000_0x0000E0A7_phys_0`. */
export function parseAdapterUsage(text: string): AdapterUsage[] {
  const byLuid = new Map<string, AdapterUsage>();
  for (const item of objectsOf(text)) {
    const match = /luid_0x([0-9a-f]{1,8})_0x([0-9a-f]{1,8})/i.exec(String(item['Name'] ?? ''));
    if (match?.[1] === undefined || match[2] === undefined) continue;
    const luid = luidKey(match[1], match[2]);
    const sum = byLuid.get(luid) ?? { luid, dedicatedBytes: 0, sharedBytes: 0 };
    sum.dedicatedBytes += numberOf(item['DedicatedUsage']) ?? 0;
    sum.sharedBytes += numberOf(item['SharedUsage']) ?? 0;
    byLuid.set(luid, sum);
  }
  return [...byLuid.values()];
}

/** JSON of `…GPUProcessMemory`; instances are named `pid_4242_luid_0x00000000_0x0000E0A7_phys_0`. */
export function parseProcessUsage(text: string): ProcessUsage[] {
  return objectsOf(text).flatMap((item) => {
    const match = /^pid_(\d{1,10})_luid_0x([0-9a-f]{1,8})_0x([0-9a-f]{1,8})/i.exec(String(item['Name'] ?? ''));
    if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return [];
    return [
      {
        pid: Number(match[1]),
        luid: luidKey(match[2], match[3]),
        dedicatedBytes: numberOf(item['DedicatedUsage']) ?? 0,
        sharedBytes: numberOf(item['SharedUsage']) ?? 0,
      },
    ];
  });
}
