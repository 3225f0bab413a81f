import { type Finding, freeFrom, freeUnknown, isIntegrated, isVirtualAdapter, saneTotal, vendorOf } from './finding.js';
import type { Probe } from './probe.js';
import type { RamReading } from './ram.js';
import { type DirectXAdapter, directXAdapters, type DriverEntry, driverEntries, parseRegQuery } from './registry.js';
import type { ProcessLink } from './processes.js';
import {
  type AdapterUsage,
  numberOf,
  objectsOf,
  parseAdapterUsage,
  parseProcessUsage,
  type ProcessUsage,
} from './windows-counters.js';

const mib = 1024 * 1024;
const classKey = 'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}';
const directXKey = 'HKLM\\SOFTWARE\\Microsoft\\DirectX';

/** A present adapter (`Win32_VideoController`). `adapterRam` is a 32-bit number: see {@link isCappedAdapterRam}. */
export interface VideoController {
  name: string;
  pciVendor: number | null;
  pciDevice: number | null;
  adapterRam: number | null;
  driver: string | null;
}

/** All that Windows told, ready for {@link windowsFindings}. */
export interface WindowsAnswers {
  controllers: VideoController[];
  usage: AdapterUsage[];
  processes: ProcessUsage[];
  links: ProcessLink[];
  drivers: DriverEntry[];
  directX: DirectXAdapter[];
}

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
        driver: typeof item['DriverVersion'] === 'string' ? item['DriverVersion'] : null,
      },
    ];
  });
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
const controllerScript =
  'Get-CimInstance Win32_VideoController | Select-Object Name,PNPDeviceID,AdapterRAM,DriverVersion';
/** The CIM class, not the counter path: names of counter paths follow the language of Windows. */
const usageScript = (what: 'Adapter' | 'Process') =>
  `Get-CimInstance Win32_PerfFormattedData_GPUPerformanceCounters_GPU${what}Memory | Select-Object Name,DedicatedUsage,SharedUsage`;
const linkScript = 'Get-CimInstance Win32_Process | Select-Object ProcessId,ParentProcessId';

/** JSON of `Win32_Process` → which process started which. */
export function parseWindowsLinks(text: string): ProcessLink[] {
  return objectsOf(text).flatMap((item) => {
    const [pid, parent] = [numberOf(item['ProcessId']), numberOf(item['ParentProcessId'])];
    // Process 0 is its own parent and, with what it started, nobody's.
    return pid === null || parent === null || parent === 0 ? [] : [{ pid, parent }];
  });
}

/** Asks the registry and, through PowerShell, the driver's counters; all at the same time, each may fail alone. */
export async function probeWindows(probe: Probe, remaining: () => number): Promise<WindowsAnswers> {
  const system = `${probe.env('SystemRoot') ?? 'C:\\Windows'}\\System32`;
  const powershell = `${system}\\WindowsPowerShell\\v1.0\\powershell.exe`;
  const output = async (command: string, args: string[]) => (await probe.exec(command, args, remaining())).stdout;
  const registry = (key: string, value?: string) =>
    output(`${system}\\reg.exe`, ['query', key, '/s', ...(value === undefined ? [] : ['/v', value])]);
  const [controllers, usage, processes, links, names, devices, sizes, directX] = await Promise.all([
    output(powershell, powershellArguments(controllerScript)),
    output(powershell, powershellArguments(usageScript('Adapter'))),
    output(powershell, powershellArguments(usageScript('Process'))),
    output(powershell, powershellArguments(linkScript)),
    registry(classKey, 'DriverDesc'),
    registry(classKey, 'MatchingDeviceId'),
    registry(classKey, 'HardwareInformation.qwMemorySize'),
    registry(directXKey),
  ]);
  return {
    controllers: parseVideoControllers(controllers),
    usage: parseAdapterUsage(usage),
    processes: parseProcessUsage(processes),
    links: parseWindowsLinks(links),
    drivers: driverEntries(parseRegQuery([names, devices, sizes].join('\n'))),
    directX: directXAdapters(parseRegQuery(directX)),
  };
}

/** Adapters that are there now; without PowerShell's answer those DirectX saw last, else every driver entry. */
function presentAdapters(answers: WindowsAnswers): VideoController[] {
  if (answers.controllers.length > 0) return answers.controllers;
  if (answers.directX.length > 0)
    return answers.directX.map((adapter) => ({ ...adapter, adapterRam: null, driver: null }));
  return answers.drivers.map((entry) => {
    const pci = /ven_([0-9a-f]{4})&dev_([0-9a-f]{4})/.exec(entry.device);
    return {
      name: entry.name,
      pciVendor: pci?.[1] === undefined ? null : Number.parseInt(pci[1], 16),
      pciDevice: pci?.[2] === undefined ? null : Number.parseInt(pci[2], 16),
      adapterRam: null,
      driver: null,
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
function toldByNvidia(adapters: VideoController[], nvidia: Finding[]): Map<VideoController, Finding> {
  const untold = [...nvidia];
  const told = new Map<VideoController, Finding>();
  for (const adapter of adapters) {
    const index = untold.findIndex((finding) => finding.name === adapter.name);
    const [finding] = index < 0 ? [] : untold.splice(index, 1);
    if (finding) told.set(adapter, finding);
  }
  for (const adapter of adapters) {
    if (told.has(adapter) || vendorOf(adapter.pciVendor, adapter.name) !== 'nvidia') continue;
    const finding = untold.shift();
    if (finding) told.set(adapter, finding);
  }
  return told;
}

/** Joins the answers; NVIDIA cards the NVIDIA driver already told of are left to it. */
export function windowsFindings(nvidia: Finding[], answers: WindowsAnswers, ram: RamReading): Finding[] {
  const adapters = presentAdapters(answers).filter(
    ({ name, pciVendor }) => !isVirtualAdapter(name) && pciVendor !== 0x1414,
  );
  const drivers = [...answers.drivers];
  const directX = [...answers.directX];
  const findings = nvidia.map((finding) => ({ ...finding }));
  const told = toldByNvidia(adapters, findings);
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
    const finding = told.get(adapter);
    if (finding !== undefined) {
      finding.luid = seen?.luid ?? null;
      continue;
    }
    // Rows cannot be told apart without a LUID; with a single adapter the software renderer's row is the smaller.
    const usage =
      answers.usage.find((row) => row.luid === seen?.luid) ??
      (adapters.length === 1
        ? answers.usage.toSorted((a, b) => b.dedicatedBytes + b.sharedBytes - a.dedicatedBytes - a.sharedBytes)[0]
        : undefined);
    const parts = { adapter, driver, seen, usage: usage ?? null };
    const base = {
      id: `${vendor}-${index}`,
      bus: null,
      luid: usage?.luid ?? seen?.luid ?? null,
      name: adapter.name,
      vendor,
      ...(adapter.driver === null ? {} : { driver: adapter.driver }),
    };
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
type MemoryPart = Pick<
  Finding,
  'totalBytes' | 'freeBytes' | 'usedBytes' | 'shared' | 'source' | 'confidence' | 'notes'
>;

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
    usedBytes: usage?.dedicatedBytes ?? null,
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
    usedBytes: usage === null ? null : usage.dedicatedBytes + usage.sharedBytes,
    shared: true,
    source: seen?.sharedBytes ? 'Windows (DirectX registry)' : `Windows; ${ram.source}`,
    confidence: seen?.sharedBytes && usage ? 'reported' : 'guessed',
    notes: ['Graphics in the processor: it shares the computer’s memory, of which Windows lends it about half.'],
  };
}
