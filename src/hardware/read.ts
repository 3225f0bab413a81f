import type { GpuReading, HardwareReading, Provider } from '../contract/types.js';
import { appleFindings, parseSysctl, probeInUse, probeSysctl } from './apple.js';
import { type Finding, type Findings, isVirtualAdapter, normalBus, vendorOf } from './finding.js';
import { linuxHeld, readableUse, splitUse, windowsHeld, withReadableUse } from './held.js';
import { type DrmCard, linuxFindings, probeDrm } from './linux.js';
import { nodeProbe } from './node-probe.js';
import { type NvidiaAnswers, nvidiaFindings, probeNvidia } from './nvidia.js';
import { type NamedController, type Probe, within } from './probe.js';
import { processTree, residentBytes } from './processes.js';
import { gpuProviders } from './providers.js';
import { type RamReading, readRam } from './ram.js';
import { probeWindows, type WindowsAnswers, windowsFindings } from './windows.js';

const graceMs = 250;

export interface ReadOptions extends Partial<Probe> {
  /** Milliseconds after which whatever is known is the answer. Default 5000. */
  timeoutMs?: number;
  /** Execution providers this installation has; without it, all that could use each GPU are listed. */
  providers?: readonly Provider[];
  /** Processes that are ours, each with all it started. Default: this one. */
  pids?: readonly number[];
}

/**
 * Reads which GPUs there are, how much memory each has and has free, from which source and how sure.
 * Sources run side by side; one that fails or hangs is a note, never an error, and the whole takes at most
 * `timeoutMs` (plus a quarter second of grace). GPUs with memory of their own come first. Where there is no GPU,
 * one entry `ram` stands for the computer's own memory. Never rejects.
 *
 * `confidence`: `measured` = total and free read from the driver just now; `reported` = the system told, but
 * free is unknown or worked out; `guessed` = a rule of thumb or a figure with a known flaw; `unknown` = no figure.
 */
export async function readHardware(options: ReadOptions = {}): Promise<HardwareReading> {
  const { timeoutMs = 5000, providers, pids = [process.pid], ...overrides } = options;
  const world: Probe = { ...nodeProbe, ...overrides };
  // A killed program whose children keep its pipes open never reports back, so each call is raced as well.
  const late = { stdout: '', stderr: '', failure: 'timeout' as const };
  const probe: Probe = { ...world, exec: (command, args, ms) => within(world.exec(command, args, ms), ms, late) };
  const deadline = performance.now() + timeoutMs;
  const remaining = () => Math.max(0, deadline - performance.now());

  const system = probe.system();
  const plainRam: RamReading = {
    totalBytes: system.totalBytes,
    freeBytes: system.freeBytes,
    source: 'operating system',
    notes: [],
  };
  const needsName = system.cpuName.trim() === '' || system.cpuName.trim() === 'unknown';
  const [ram, gather, resident, cpuName] = await Promise.all([
    within(readRam(probe, remaining), timeoutMs, plainRam),
    gatherers(probe, remaining, pids),
    within(
      processTree(probe, pids).then((tree) => residentBytes(probe, tree)),
      timeoutMs,
      null,
    ),
    needsName ? within(probe.processorName(), timeoutMs, '') : system.cpuName,
  ]);
  const found = gather(ram);
  const readAt = probe.now();
  const gpus = found.gpus.map((finding): GpuReading => ({
    id: finding.id,
    name: finding.name ?? unnamed(finding),
    vendor: finding.vendor,
    totalBytes: finding.totalBytes,
    freeBytes: finding.freeBytes,
    ...splitUse(finding),
    address: probe.platform === 'win32' ? (finding.luid ?? null) : finding.bus,
    shared: finding.shared,
    source: finding.source,
    confidence: finding.confidence,
    providers: gpuProviders(finding.vendor, probe.platform, providers),
    readAt,
    ...(finding.driver === undefined ? {} : { driver: finding.driver }),
    notes: finding.shared ? [...finding.notes, ...ram.notes] : [...finding.notes],
  }));
  const reading: HardwareReading = {
    gpus: gpus.toSorted(byUse),
    ram: {
      totalBytes: ram.totalBytes,
      freeBytes: ram.freeBytes,
      heldByUsBytes: resident,
      source: ram.source,
      confidence: 'measured',
    },
    cpu: { name: cpuName.trim() || 'unknown processor', cores: system.cores },
    platform: probe.platform,
  };
  const [first] = reading.gpus;
  if (first) first.notes.push(...found.notes);
  else reading.gpus.push(ramEntry(ram, resident, found.notes, probe, providers));
  return reading;
}

function ramEntry(
  ram: RamReading,
  resident: number | null,
  notes: string[],
  probe: Probe,
  providers?: readonly Provider[],
): GpuReading {
  return {
    id: 'ram',
    name: 'This computer’s memory',
    vendor: 'none',
    totalBytes: ram.totalBytes,
    freeBytes: ram.freeBytes,
    heldByOthersBytes: Math.max(0, ram.totalBytes - ram.freeBytes - (resident ?? 0)),
    heldByUsBytes: resident,
    address: null,
    shared: true,
    source: ram.source,
    confidence: 'measured',
    providers: gpuProviders('none', probe.platform, providers),
    readAt: probe.now(),
    notes: ['No GPU memory found: plan for this computer’s memory.', ...ram.notes, ...notes],
  };
}

/** Runs the platform's sources; the result joins them once the computer's memory is known. */
async function gatherers(
  probe: Probe,
  remaining: () => number,
  pids: readonly number[],
): Promise<(ram: RamReading) => Findings> {
  // Commands end at the deadline by themselves; the grace lets the answers that did come be used.
  const limited = <T>(work: Promise<T>, fallback: T) => within(work, remaining() + graceMs, fallback);
  if (probe.platform === 'darwin') {
    const [sysctl, inUse] = await Promise.all([
      limited(probeSysctl(probe, remaining), parseSysctl('')),
      limited(probeInUse(probe, remaining()), null),
    ]);
    const controllers = sysctl.appleSilicon ? [] : await limited(probe.controllers(), []);
    return (ram) => ({ gpus: appleFindings(sysctl, controllers, ram, inUse), notes: [] });
  }
  const silent: NvidiaAnswers = {
    rows: [],
    driver: null,
    processes: null,
    notes: ['The NVIDIA driver did not answer in time.'],
  };
  const asked = limited(probeNvidia(probe, remaining), silent);
  if (probe.platform === 'win32') {
    const empty: WindowsAnswers = { controllers: [], usage: [], processes: [], links: [], drivers: [], directX: [] };
    const [nvidia, answers] = await Promise.all([asked, limited(probeWindows(probe, remaining), empty)]);
    const held = windowsHeld(answers, pids);
    return (ram) => ({
      gpus: windowsFindings(nvidiaFindings(nvidia, ram), answers, ram).map((finding) => ({
        ...finding,
        oursBytes: held(finding),
      })),
      notes: nvidia.notes,
    });
  }
  const [nvidia, cards] = await Promise.all([asked, limited(probeDrm(probe), [])]);
  const told = new Set(nvidia.rows.map((row) => row.bus));
  const nameless = cards.some((card) => card.name === null && !told.has(card.bus));
  // systeminformation asks nvidia-smi in a blocking way, so it is not called after that one has hung. Without
  // any answer from the kernel (a container without /sys) its list is the last hope to know of a GPU at all.
  const useful = nameless || (cards.length === 0 && nvidia.rows.length === 0);
  const names = useful && nvidia.notes.length === 0 ? await limited(probe.controllers(), []) : [];
  const notes = [...nvidia.notes, ...(await limited(reachNotes(probe, nvidia.rows.length, cards), []))];
  const [held, use] = await Promise.all([
    limited<(finding: Finding) => number | null>(linuxHeld(probe, pids, nvidia), () => null),
    limited(readableUse(probe, cards), new Map<string, number>()),
  ]);
  return (ram) => ({
    gpus: named(linuxFindings(nvidiaFindings(nvidia, ram), cards, ram), cards, names).map((finding) => ({
      ...withReadableUse(finding, use),
      oursBytes: held(finding),
    })),
    notes,
  });
}

/** Linux: what keeps a program from using a GPU that is in the computer. */
async function reachNotes(probe: Probe, nvidiaCount: number, cards: DrmCard[]): Promise<string[]> {
  if (nvidiaCount > 0) return [];
  if (cards.length === 0) {
    const version = (await probe.readText('/proc/version')) ?? '';
    return /microsoft/i.test(version)
      ? ['Inside WSL only NVIDIA GPUs tell their memory; Snug for Windows sees the others.']
      : [];
  }
  const nodes = await probe.list('/dev/dri');
  return nodes.some((node) => node.startsWith('renderD'))
    ? []
    : ['Programs cannot reach the GPU from here: no render device in /dev/dri (a container without the GPU?).'];
}

/**
 * Puts systeminformation's names on Linux findings by bus address. Its `vram` is never used: on Linux that is
 * the PCI window onto the card (256 MB without resizable BAR, 32 GB for a 24 GB card with it).
 */
export function named(findings: Finding[], cards: DrmCard[], controllers: NamedController[]): Finding[] {
  const byBus = new Map(controllers.map((controller) => [normalBus(controller.busAddress), controller]));
  const devices = new Map(cards.map((card) => [card.bus, card.pciDevice]));
  const result = findings.map((finding) => {
    if (finding.name !== null) return finding;
    const name = byBus.get(finding.bus)?.name.trim();
    const device = devices.get(finding.bus);
    return { ...finding, name: name || (device ? `${unnamed(finding)} (device ${device.toLowerCase()})` : null) };
  });
  if (findings.length > 0 || cards.length > 0) return result;
  return controllers
    .filter((controller) => !isVirtualAdapter(`${controller.vendor} ${controller.name}`))
    .map((controller, index) => ({
      id: `${vendorOf(null, `${controller.vendor} ${controller.name}`)}-${index}`,
      bus: normalBus(controller.busAddress),
      name: controller.name,
      vendor: vendorOf(null, `${controller.vendor} ${controller.name}`),
      totalBytes: null,
      freeBytes: null,
      shared: false,
      source: 'list of PCI devices',
      confidence: 'unknown' as const,
      notes: ['A GPU is there, but nothing tells how much memory it has; enter the size by hand.'],
    }));
}

function unnamed(finding: Finding): string {
  const makers = {
    nvidia: 'NVIDIA GPU',
    amd: 'AMD GPU',
    intel: 'Intel GPU',
    apple: 'Apple GPU',
    other: 'GPU',
    none: 'GPU',
  };
  return makers[finding.vendor];
}

/** Own memory before shared, known before unknown, more before less; equal ones keep the driver's order. */
function byUse(a: GpuReading, b: GpuReading): number {
  const rank = (gpu: GpuReading) => (gpu.shared ? 2 : 0) + (gpu.totalBytes === null ? 1 : 0);
  return rank(a) - rank(b) || (b.totalBytes ?? 0) - (a.totalBytes ?? 0);
}
