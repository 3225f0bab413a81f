import { type Finding, freeUnknown, saneTotal, vendorOf, isVirtualAdapter } from './finding.js';
import type { NamedController, Probe } from './probe.js';
import type { RamReading } from './ram.js';

const mib = 1024 * 1024;
const gib = 1024 * mib;

/** Figures of macOS's sysctl that matter here. */
export interface AppleSysctl {
  memoryBytes: number | null;
  appleSilicon: boolean;
  chip: string;
  /** `iogpu.wired_limit_mb` in bytes; null when 0 (= the system's own rule) or absent. */
  wiredLimitBytes: number | null;
}

/** `sysctl name…` prints `name: value` per known name; unknown names go to stderr and are simply missing. */
export function parseSysctl(text: string): AppleSysctl {
  const value = (name: string) =>
    new RegExp(`^${name.replaceAll('.', '\\.')}[:=] ?(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '';
  const number = (name: string) => (/^\d{1,16}$/.test(value(name)) ? Number(value(name)) : null);
  const limit = number('iogpu.wired_limit_mb') ?? number('debug.iogpu.wired_limit_mb');
  return {
    memoryBytes: saneTotal(number('hw.memsize')),
    appleSilicon: number('hw.optional.arm64') === 1,
    chip: value('machdep.cpu.brand_string'),
    wiredLimitBytes: limit === null || limit === 0 ? null : saneTotal(limit * mib),
  };
}

/**
 * Bytes the GPU may keep in use: the user's own limit, else Metal's habit of about 2/3 of memory up to
 * 36 GiB and 3/4 above. The exact figure (`recommendedMaxWorkingSetSize`) needs native code.
 */
export function appleWorkingSetBytes(sysctl: AppleSysctl, ram: RamReading): number {
  const memory = sysctl.memoryBytes ?? ram.totalBytes;
  if (sysctl.wiredLimitBytes !== null) return Math.min(memory, sysctl.wiredLimitBytes);
  return Math.floor(memory <= 36 * gib ? (memory * 2) / 3 : (memory * 3) / 4);
}

/**
 * `ioreg -r -d 1 -w 0 -c IOAccelerator` → bytes all programs hold for the GPU, from its `PerformanceStatistics`;
 * null when no accelerator tells.
 */
export function parseInUse(text: string): number | null {
  const figures = [...text.matchAll(/"In use system memory"\s*=\s*(\d{1,15})/g)].map(([, bytes]) => Number(bytes));
  return figures.length === 0 ? null : figures.reduce((sum, bytes) => sum + bytes, 0);
}

export async function probeSysctl(probe: Probe, remaining: () => number): Promise<AppleSysctl> {
  const names = ['hw.memsize', 'hw.optional.arm64', 'machdep.cpu.brand_string', 'iogpu.wired_limit_mb'];
  const { stdout } = await probe.exec('/usr/sbin/sysctl', names, remaining());
  return parseSysctl(stdout);
}

const ioregArguments = ['-r', '-d', '1', '-w', '0', '-c', 'IOAccelerator'];

/** Bytes all programs hold for the GPU now; null when macOS does not tell. */
export async function probeInUse(probe: Pick<Probe, 'exec'>, timeoutMs: number): Promise<number | null> {
  return parseInUse((await probe.exec('/usr/sbin/ioreg', ioregArguments, timeoutMs)).stdout);
}

/** Apple silicon: one GPU over unified memory, of which `inUseBytes` are held for it. Intel Macs: what the system profiler lists. */
export function appleFindings(
  sysctl: AppleSysctl,
  controllers: NamedController[],
  ram: RamReading,
  inUseBytes: number | null,
): Finding[] {
  if (sysctl.appleSilicon) {
    const totalBytes = appleWorkingSetBytes(sysctl, ram);
    return [
      {
        id: 'apple-0',
        bus: null,
        name: sysctl.chip || 'Apple GPU',
        vendor: 'apple',
        totalBytes,
        freeBytes: Math.min(Math.max(0, totalBytes - (inUseBytes ?? 0)), ram.freeBytes),
        usedBytes: inUseBytes,
        shared: true,
        source: `macOS (sysctl${inUseBytes === null ? '' : ', ioreg'}); free: ${ram.source}`,
        confidence: sysctl.wiredLimitBytes === null ? 'guessed' : 'reported',
        notes: [
          sysctl.wiredLimitBytes === null
            ? 'The GPU shares the computer’s memory; the part macOS lets it use is a rule of thumb.'
            : 'The GPU shares the computer’s memory, up to the limit set on this computer (iogpu.wired_limit_mb).',
        ],
      },
    ];
  }
  return controllers
    .filter((controller) => !isVirtualAdapter(controller.name))
    .map((controller, index): Finding => {
      const vendor = vendorOf(null, `${controller.vendor} ${controller.name}`);
      const base = { id: `${vendor}-${index}`, bus: null, name: controller.name, vendor };
      if (vendor === 'intel') {
        const notes = ['Graphics in the processor: it uses the computer’s memory.'];
        return {
          ...base,
          totalBytes: ram.totalBytes,
          freeBytes: ram.freeBytes,
          shared: true,
          source: ram.source,
          confidence: 'guessed',
          notes,
        };
      }
      const totalBytes = saneTotal(controller.vramMb === null ? null : controller.vramMb * mib);
      return {
        ...base,
        totalBytes,
        freeBytes: null,
        shared: false,
        source: 'macOS (system profiler)',
        confidence: totalBytes === null ? 'unknown' : 'reported',
        notes: [totalBytes === null ? 'macOS does not tell this card’s memory; enter the size by hand.' : freeUnknown],
      };
    });
}
