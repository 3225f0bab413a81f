import { parseByteCount, saneTotal } from './finding.js';

/** One key of `reg query` output with its values, `type` as printed (`REG_SZ`, `REG_QWORD`, …). */
export interface RegistryKey {
  path: string;
  values: Map<string, { type: string; data: string }>;
}

/**
 * Output of `reg query … /s` (several may be joined) → keys. Value lines are indented by four spaces and
 * separated by four; everything else (localised summaries, errors) is passed over. Value names fold to lower case.
 */
export function parseRegQuery(text: string): RegistryKey[] {
  const keys = new Map<string, RegistryKey>();
  let current: RegistryKey | null = null;
  for (const line of text.split(/\r?\n/)) {
    if (/^HKEY_/.test(line)) {
      const path = line.trim();
      current = keys.get(path) ?? { path, values: new Map() };
      keys.set(path, current);
      continue;
    }
    const match = /^ {4}(\S.*?) {4}(REG_[A-Z_]+)(?: {4}(.*))?$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) {
      current?.values.set(match[1].toLowerCase(), { type: match[2], data: (match[3] ?? '').trim() });
    }
  }
  return [...keys.values()];
}

/** Bytes out of REG_QWORD / REG_DWORD (`0x…`) or up to 8 little-endian bytes of REG_BINARY; null otherwise. */
export function registryBytes(value: { type: string; data: string } | undefined): number | null {
  if (value === undefined) return null;
  if (value.type !== 'REG_BINARY') return parseByteCount(value.data);
  if (!/^([0-9a-f]{2}){1,8}$/i.test(value.data)) return null;
  return parseByteCount(`0x${(value.data.match(/../g) ?? []).reverse().join('')}`);
}

/** A display driver's entry of the class key. Entries of removed cards stay there, so it proves no presence. */
export interface DriverEntry {
  name: string;
  /** `pci\ven_10de&dev_2206`, lower case, or empty. */
  device: string;
  dedicatedBytes: number | null;
}

export function driverEntries(keys: RegistryKey[]): DriverEntry[] {
  return keys
    .filter((key) => /\\\d{4}$/.test(key.path))
    .map((key) => ({
      name: key.values.get('driverdesc')?.data ?? '',
      device: (key.values.get('matchingdeviceid')?.data ?? '').toLowerCase(),
      dedicatedBytes: saneTotal(registryBytes(key.values.get('hardwareinformation.qwmemorysize'))),
    }));
}

/** An adapter as DirectX last saw it: the one place that ties a name to the LUID of the usage counters. */
export interface DirectXAdapter {
  name: string;
  pciVendor: number | null;
  pciDevice: number | null;
  /** `high_low` in lower-case hexadecimal without leading zeros, as {@link luidKey} makes it. */
  luid: string | null;
  dedicatedBytes: number | null;
  sharedBytes: number | null;
}

/** Subkeys of `HKLM\SOFTWARE\Microsoft\DirectX` that carry the root's `LastSeen`: older ones are gone adapters. */
export function directXAdapters(keys: RegistryKey[]): DirectXAdapter[] {
  const rootSeen = keys.find((key) => /\\DirectX$/i.test(key.path))?.values.get('lastseen')?.data;
  const adapters: DirectXAdapter[] = [];
  for (const { path, values } of keys) {
    const name = values.get('description')?.data;
    if (!/\\DirectX\\\{[^\\]+\}$/i.test(path) || !name) continue;
    if (rootSeen !== undefined && values.get('lastseen')?.data !== rootSeen) continue;
    const luid = /^0x([0-9a-f]{1,16})$/i.exec(values.get('adapterluid')?.data ?? '')?.[1]?.padStart(16, '0');
    adapters.push({
      name,
      pciVendor: registryBytes(values.get('vendorid')),
      pciDevice: registryBytes(values.get('deviceid')),
      luid: luid === undefined ? null : luidKey(luid.slice(0, 8), luid.slice(8)),
      dedicatedBytes: registryBytes(values.get('dedicatedvideomemory')),
      sharedBytes: saneTotal(registryBytes(values.get('sharedsystemmemory'))),
    });
  }
  return adapters;
}

/** Both halves of an adapter's LUID in hexadecimal → one key. */
export function luidKey(high: string, low: string): string {
  const strip = (hex: string) => hex.toLowerCase().replace(/^0+(?=.)/, '');
  return `${strip(high)}_${strip(low)}`;
}
