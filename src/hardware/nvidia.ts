import {
  type Finding,
  type Findings,
  freeFrom,
  freeUnknown,
  isUnifiedNvidia,
  normalBus,
  saneTotal,
} from './finding.js';
import type { Probe } from './probe.js';
import type { RamReading } from './ram.js';

const mib = 1024 * 1024;
const commonFields = ['index', 'uuid', 'pci.bus_id', 'name', 'memory.total', 'memory.used', 'memory.free'];
/** Older drivers refuse a query that names one field they do not know, so these are dropped on the second try. */
const newerFields = ['memory.reserved', 'mig.mode.current'];
const source = 'NVIDIA driver (nvidia-smi)';

/** One line of `nvidia-smi --query-gpu`; memory in bytes, null where the driver gave no number. */
export interface NvidiaRow {
  index: number;
  bus: string | null;
  name: string;
  totalBytes: number | null;
  usedBytes: number | null;
  freeBytes: number | null;
  reservedBytes: number | null;
  mig: boolean;
  /** What stood in place of the total, e.g. `[N/A]`, `[GPU is lost]`. */
  refusal: string | null;
}

/** CSV of {@link queryArguments} → rows. Lines that are no such row (warnings, errors) are left out. */
export function parseNvidiaCsv(text: string): NvidiaRow[] {
  const rows: NvidiaRow[] = [];
  for (const line of text.split(/\r?\n/)) {
    const cells = line.split(',').map((cell) => cell.trim());
    const [index, , bus, name, total, used, free, reserved, mig] = cells;
    if (cells.length < commonFields.length || !/^\d{1,3}$/.test(index ?? '') || !name) continue;
    const totalBytes = saneTotal(parseMib(total));
    rows.push({
      index: Number(index),
      bus: normalBus(bus),
      name,
      totalBytes,
      usedBytes: parseMib(used),
      freeBytes: parseMib(free),
      reservedBytes: parseMib(reserved),
      mig: mig === 'Enabled',
      refusal: totalBytes === null ? (total ?? '') : null,
    });
  }
  return rows;
}

/** One process in `nvidia-smi -q -x`: compute and graphics contexts alike, which the CSV queries do not list together. */
export interface NvidiaProcess {
  bus: string | null;
  pid: number;
  /** Null where the driver does not count by process (Windows display driver model). */
  usedBytes: number | null;
}

/** XML of `nvidia-smi -q -x` → processes of every GPU; anything else is none. */
export function parseNvidiaXml(text: string): NvidiaProcess[] {
  const processes: NvidiaProcess[] = [];
  for (const [, bus, gpu = ''] of text.matchAll(/<gpu id="([^"]{1,40})">([\s\S]*?)<\/gpu>/g)) {
    for (const [, info = ''] of gpu.matchAll(/<process_info>([\s\S]*?)<\/process_info>/g)) {
      const pid = /<pid>(\d{1,10})<\/pid>/.exec(info)?.[1];
      if (pid === undefined) continue;
      const used = parseMib(/<used_memory>([^<]*)<\/used_memory>/.exec(info)?.[1]);
      processes.push({ bus: normalBus(bus), pid: Number(pid), usedBytes: used });
    }
  }
  return processes;
}

/**
 * Bytes of `pids` on one GPU. Null where a process of ours has no figure, or where the list cannot be of this
 * system (memory in use without any process: a container that hides them).
 */
export function nvidiaHeldBy(
  row: Pick<NvidiaRow, 'bus' | 'usedBytes'>,
  processes: readonly NvidiaProcess[],
  pids: readonly number[],
): number | null {
  const here = processes.filter(({ bus }) => bus === row.bus);
  // The driver's own share of an idle card stays below this.
  if (here.length === 0 && (row.usedBytes ?? Infinity) > 1024 * mib) return null;
  let sum = 0;
  for (const { pid, usedBytes } of here) {
    if (!pids.includes(pid)) continue;
    if (usedBytes === null) return null;
    sum += usedBytes;
  }
  return sum;
}

/** `nounits` prints plain MiB; some builds print the unit all the same. */
function parseMib(cell: string | undefined): number | null {
  const match = /^(\d{1,9})(?:\s*MiB)?$/.exec(cell ?? '');
  return match ? Number(match[1]) * mib : null;
}

function queryArguments(fields: string[]): string[] {
  return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
}

/**
 * Where nvidia-smi may be. Windows gets full paths only: a bare name would be looked up in the current
 * folder first, which may hold anything. WSL keeps it outside of PATH.
 */
export function nvidiaSmiPaths(probe: Pick<Probe, 'platform' | 'env'>): string[] {
  if (probe.platform !== 'win32') return ['nvidia-smi', '/usr/lib/wsl/lib/nvidia-smi', '/usr/bin/nvidia-smi'];
  const windows = probe.env('SystemRoot') ?? 'C:\\Windows';
  const programs = probe.env('ProgramFiles') ?? 'C:\\Program Files';
  return [`${windows}\\System32\\nvidia-smi.exe`, `${programs}\\NVIDIA Corporation\\NVSMI\\nvidia-smi.exe`];
}

/** What the NVIDIA driver told; `processes` null when it did not list them. */
export interface NvidiaAnswers {
  rows: NvidiaRow[];
  driver: string | null;
  processes: NvidiaProcess[] | null;
  notes: string[];
}

/** Asks the NVIDIA driver; no driver is no finding and no note. `remaining` gives the milliseconds left. */
export async function probeNvidia(probe: Probe, remaining: () => number): Promise<NvidiaAnswers> {
  for (const command of nvidiaSmiPaths(probe)) {
    let answer = await probe.exec(command, queryArguments([...commonFields, ...newerFields]), remaining());
    if (answer.failure === 'missing') continue;
    let rows = parseNvidiaCsv(answer.stdout);
    if (answer.failure === 'exit' && rows.length === 0) {
      answer = await probe.exec(command, queryArguments(commonFields), remaining());
      rows = parseNvidiaCsv(answer.stdout);
    }
    if (rows.length > 0) {
      const { stdout, failure } = await probe.exec(command, ['-q', '-x'], remaining());
      if (failure !== null) return { rows, driver: null, processes: null, notes: [] };
      const driver = /<driver_version>([\w.]{1,40})<\/driver_version>/.exec(stdout)?.[1] ?? null;
      return { rows, driver, processes: parseNvidiaXml(stdout), notes: [] };
    }
    const notes =
      answer.failure === 'timeout'
        ? ['The NVIDIA driver did not answer in time.']
        : refusalNotes(`${answer.stdout}\n${answer.stderr}`);
    return { rows, driver: null, processes: null, notes };
  }
  return { rows: [], driver: null, processes: null, notes: [] };
}

function refusalNotes(text: string): string[] {
  if (/no devices were found/i.test(text)) return ['The NVIDIA driver is installed but found no GPU.'];
  if (/version mismatch/i.test(text)) {
    return ['The NVIDIA driver was updated and needs a restart of the computer before it answers.'];
  }
  return ['The NVIDIA tool nvidia-smi is installed but the driver did not answer.'];
}

/** Rows → findings. Chips without memory of their own get the computer's memory, said to be a guess. */
export function nvidiaFindings(
  { rows, driver }: Pick<NvidiaAnswers, 'rows' | 'driver'>,
  ram: RamReading,
): Findings['gpus'] {
  return rows.map((row): Finding => {
    const base = {
      id: `nvidia-${row.index}`,
      bus: row.bus,
      name: row.name,
      vendor: 'nvidia' as const,
      source,
      ...(driver === null ? {} : { driver }),
    };
    if (row.totalBytes === null && isUnifiedNvidia(row.name)) {
      return {
        ...base,
        totalBytes: ram.totalBytes,
        freeBytes: ram.freeBytes,
        shared: true,
        confidence: 'guessed',
        source: `${source}; memory: ${ram.source}`,
        notes: ['This GPU shares the computer’s memory and its driver gives no figure of its own.'],
      };
    }
    // The driver keeps `reserved` back, so total - used alone would promise too much.
    const used = row.usedBytes === null ? null : row.usedBytes + (row.reservedBytes ?? 0);
    const freeBytes = freeFrom({ total: row.totalBytes, free: row.freeBytes, used });
    const notes: string[] = [];
    if (row.totalBytes === null) notes.push(`The driver answered “${row.refusal}” instead of a memory size.`);
    else if (freeBytes === null) notes.push(freeUnknown);
    else if (row.freeBytes === null) notes.push('Free memory was worked out as total minus used.');
    if (row.mig) notes.push('This card is split into slices (MIG); a program gets the memory of its slice only.');
    const confidence =
      row.totalBytes === null ? 'unknown' : row.freeBytes === null || row.mig ? 'reported' : 'measured';
    return {
      ...base,
      totalBytes: row.totalBytes,
      freeBytes,
      usedBytes: row.usedBytes,
      shared: false,
      confidence,
      notes,
    };
  });
}
