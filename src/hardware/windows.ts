import { type Finding, freeFrom, freeUnknown, isIntegrated, isVirtualAdapter, saneTotal, vendorOf } from './finding.js';
import type { Probe } from './probe.js';
import type { RamReading } from './ram.js';
import {
  type DirectXAdapter,
  directXAdapters,
  type DriverEntry,
  driverEntries,
  luidKey,
  parseRegQuery,
} from './registry.js';

const mib = 1024 * 1024;
const classKey = 'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}';
const directXKey = 'HKLM\\SOFTWARE\\Microsoft\\DirectX';

/** A present adapter (`Win32_VideoController`). `adapterRam` is a 32-bit number: see {@link isCappedAdapterRam}. */
export interface VideoController {
  name: string;
  pciVendor: number | null;
  pciDevice: number | null;
  adapterRam: number | null;
}

/** Bytes in use on one adapter over all programs, summed over its physical parts. */
export interface AdapterUsage {
  luid: string;
  dedicatedBytes: number;
  sharedBytes: number;
}

/** All that Windows told, ready for {@link windowsFindings}. */
export interface WindowsAnswers {
  controllers: VideoController[];
  usage: AdapterUsage[];
  drivers: DriverEntry[];
  directX: DirectXAdapter[];
}

function objectsOf(text: string): Record<string, unknown>[] {
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

const numberOf = (value: unknown) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) && number >= 0 ? number : null;
};

/** JSON of {@link controllerScript}. */
export function parseVideoControllers(text: string): VideoController[] {
  return objectsOf(text).flatMap((item) => {
    if (typeof item['Name'] !== 'string' || item['Name'] === '') return [];
    const pci = /VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})/i.exec(String(item['PNPDeviceID'] ?? ''));
    return [
      {
        name: item['Name'],
        pciVendor: pci?.[1] === undefined ? null : Number.parseInt(pci[1], 16),
        pciDevice: pci?.[2] === undefined ? null : Number.parseInt(pci[2], 16),
        adapterRam: saneTotal(numberOf(item['AdapterRAM'])),
      },
    ];
  });
}

/** JSON of {@link usageScript}; instances are named `luid_0x00000000_0x0000E0A7_phys_0`. */
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

/** `AdapterRAM` has 32 bits: 4095 or 4096 MiB there means "that much or any amount more". */
export function isCappedAdapterRam(bytes: number): boolean {
  return bytes >= 4094 * mib && bytes <= 4097 * mib;
}

function powershellArguments(query: string): string[] {
  const script =
    "$ErrorActionPreference='SilentlyContinue';[Console]::OutputEncoding=[Text.Encoding]::UTF8;" +
    `ConvertTo-Json -Compress -InputObject @(${query})`;
  return ['-NoProfile', '-NonInteractive', '-Command', script];
}
const controllerScript = 'Get-CimInstance Win32_VideoController | Select-Object Name,PNPDeviceID,AdapterRAM';
/** The CIM class, not the counter path: names of counter paths follow the language of Windows. */
const usageScript =
  'Get-CimInstance Win32_PerfFormattedData_GPUPerformanceCounters_GPUAdapterMemory | Select-Object Name,DedicatedUsage,SharedUsage';

/** Asks the registry and, through PowerShell, the driver's counters; all at the same time, each may fail alone. */
export async function probeWindows(probe: Probe, remaining: () => number): Promise<WindowsAnswers> {
  const system = `${probe.env('SystemRoot') ?? 'C:\\Windows'}\\System32`;
  const powershell = `${system}\\WindowsPowerShell\\v1.0\\powershell.exe`;
  const output = async (command: string, args: string[]) => (await probe.exec(command, args, remaining())).stdout;
  const registry = (key: string, value?: string) =>
    output(`${system}\\reg.exe`, ['query', key, '/s', ...(value === undefined ? [] : ['/v', value])]);
  const [controllers, usage, names, devices, sizes, directX] = await Promise.all([
    output(powershell, powershellArguments(controllerScript)),
    output(powershell, powershellArguments(usageScript)),
    registry(classKey, 'DriverDesc'),
    registry(classKey, 'MatchingDeviceId'),
    registry(classKey, 'HardwareInformation.qwMemorySize'),
    registry(directXKey),
  ]);
  return {
    controllers: parseVideoControllers(controllers),
    usage: parseAdapterUsage(usage),
    drivers: driverEntries(parseRegQuery([names, devices, sizes].join('\n'))),
    directX: directXAdapters(parseRegQuery(directX)),
  };
}

/** Adapters that are there now; without PowerShell's answer those DirectX saw last, else every driver entry. */
function presentAdapters(answers: WindowsAnswers): VideoController[] {
  if (answers.controllers.length > 0) return answers.controllers;
  if (answers.directX.length > 0) return answers.directX.map((adapter) => ({ ...adapter, adapterRam: null }));
  return answers.drivers.map((entry) => {
    const pci = /ven_([0-9a-f]{4})&dev_([0-9a-f]{4})/.exec(entry.device);
    return {
      name: entry.name,
      pciVendor: pci?.[1] === undefined ? null : Number.parseInt(pci[1], 16),
      pciDevice: pci?.[2] === undefined ? null : Number.parseInt(pci[2], 16),
      adapterRam: null,
    };
  });
}

/** Removes and returns the entry that speaks of `adapter`, so that two equal cards get one entry each. */
function take<T extends { name: string }>(
  list: T[],
  adapter: VideoController,
  sameDevice: (item: T) => boolean,
): T | null {
  let index = list.findIndex((item) => sameDevice(item) && item.name === adapter.name);
  if (index < 0) index = list.findIndex(sameDevice);
  if (index < 0) index = list.findIndex((item) => item.name === adapter.name);
  return index < 0 ? null : (list.splice(index, 1)[0] ?? null);
}

/** Adapters the NVIDIA driver told of: by name first, then, should the names differ, as many as it told of. */
function toldByNvidia(adapters: VideoController[], nvidia: Finding[]): Set<VideoController> {
  const names = nvidia.map((finding) => finding.name);
  const told = new Set<VideoController>();
  for (const adapter of adapters) {
    const index = names.indexOf(adapter.name);
    if (index < 0) continue;
    names.splice(index, 1);
    told.add(adapter);
  }
  const renamed = adapters.filter(
    (adapter) => !told.has(adapter) && vendorOf(adapter.pciVendor, adapter.name) === 'nvidia',
  );
  for (const adapter of renamed.slice(0, names.length)) told.add(adapter);
  return told;
}

/** Joins the answers; NVIDIA cards the NVIDIA driver already told of are left to it. */
export function windowsFindings(nvidia: Finding[], answers: WindowsAnswers, ram: RamReading): Finding[] {
  const adapters = presentAdapters(answers).filter(
    ({ name, pciVendor }) => !isVirtualAdapter(name) && pciVendor !== 0x1414,
  );
  const drivers = [...answers.drivers];
  const directX = [...answers.directX];
  const told = toldByNvidia(adapters, nvidia);
  const findings = [...nvidia];
  for (const [index, adapter] of adapters.entries()) {
    const vendor = vendorOf(adapter.pciVendor, adapter.name);
    const hex = (value: number | null) => (value ?? 0).toString(16).padStart(4, '0');
    const device = `ven_${hex(adapter.pciVendor)}&dev_${hex(adapter.pciDevice)}`;
    const driver = take(drivers, adapter, (entry) => adapter.pciVendor !== null && entry.device.includes(device));
    const seen = take(
      directX,
      adapter,
      (entry) =>
        adapter.pciVendor !== null && entry.pciVendor === adapter.pciVendor && entry.pciDevice === adapter.pciDevice,
    );
    if (told.has(adapter)) continue;
    // Rows cannot be told apart without a LUID; with a single adapter the software renderer's row is the smaller.
    const usage =
      answers.usage.find((row) => row.luid === seen?.luid) ??
      (adapters.length === 1
        ? answers.usage.toSorted((a, b) => b.dedicatedBytes + b.sharedBytes - a.dedicatedBytes - a.sharedBytes)[0]
        : undefined);
    const parts = { adapter, driver, seen, usage: usage ?? null };
    const base = { id: `${vendor}-${index}`, bus: null, name: adapter.name, vendor };
    findings.push(
      isIntegrated(vendor, adapter.name) ? { ...base, ...sharedMemory(parts, ram) } : { ...base, ...ownMemory(parts) },
    );
  }
  return findings;
}

interface Parts {
  adapter: VideoController;
  driver: DriverEntry | null;
  seen: DirectXAdapter | null;
  usage: AdapterUsage | null;
}
type MemoryPart = Pick<Finding, 'totalBytes' | 'freeBytes' | 'shared' | 'source' | 'confidence' | 'notes'>;

function ownMemory({ adapter, driver, seen, usage }: Parts): MemoryPart {
  const told = driver?.dedicatedBytes ?? saneTotal(seen?.dedicatedBytes ?? null);
  const totalBytes = told ?? adapter.adapterRam;
  const freeBytes =
    totalBytes === null ? null : freeFrom({ total: totalBytes, free: null, used: usage?.dedicatedBytes ?? null });
  const capped = told === null && totalBytes !== null && isCappedAdapterRam(totalBytes);
  const notes: string[] = [];
  if (totalBytes === null) notes.push('Windows does not tell this card’s memory; enter the size by hand.');
  else if (capped)
    notes.push('Windows reports at most 4 GB here; the card may have more. Enter the size if you know it.');
  if (totalBytes !== null && freeBytes === null) notes.push(freeUnknown);
  return {
    totalBytes,
    freeBytes,
    shared: false,
    source: told === null ? 'Windows (video controller)' : 'Windows (display driver registry)',
    confidence: totalBytes === null ? 'unknown' : told === null ? 'guessed' : 'reported',
    notes,
  };
}

function sharedMemory({ driver, seen, usage }: Parts, ram: RamReading): MemoryPart {
  // The registry's size is the slice the firmware set aside; on top Windows lends up to half of memory.
  const dedicated = driver?.dedicatedBytes ?? seen?.dedicatedBytes ?? 0;
  const lent = seen?.sharedBytes ?? Math.floor(ram.totalBytes / 2);
  const free =
    Math.max(0, dedicated - (usage?.dedicatedBytes ?? 0)) +
    Math.max(0, Math.min(lent - (usage?.sharedBytes ?? 0), ram.freeBytes));
  return {
    totalBytes: dedicated + lent,
    freeBytes: free,
    shared: true,
    source: seen?.sharedBytes ? 'Windows (DirectX registry)' : `Windows; ${ram.source}`,
    confidence: seen?.sharedBytes && usage ? 'reported' : 'guessed',
    notes: ['Graphics in the processor: it shares the computer’s memory, of which Windows lends it about half.'],
  };
}
