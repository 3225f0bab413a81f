import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseInUse, parseSysctl } from '../../../src/hardware/apple.js';
import { parseFdinfo } from '../../../src/hardware/fdinfo.js';
import { freeFrom, normalBus, parseByteCount } from '../../../src/hardware/finding.js';
import { parseDrmCard } from '../../../src/hardware/linux.js';
import { parseNvidiaCsv, parseNvidiaXml } from '../../../src/hardware/nvidia.js';
import { parsePsLinks, parsePsResident, parseResident } from '../../../src/hardware/processes.js';
import { cgroupFolders, parseCgroup, parseMeminfo, parseVmStat } from '../../../src/hardware/ram.js';
import { directXAdapters, driverEntries, parseRegQuery } from '../../../src/hardware/registry.js';
import { readHardware } from '../../../src/hardware/read.js';
import { parseVideoControllers } from '../../../src/hardware/windows.js';
import { parseAdapterUsage, parseProcessUsage } from '../../../src/hardware/windows-counters.js';
import { parseLoopLine } from '../../../src/hardware/windows-loop.js';
import { fake } from './fake.js';

/** Arbitrary text, and text made of the pieces the parsers look for, put together wrongly. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(
      fc.oneof(
        fc.constantFrom(
          '0, GPU-1, 00000000:01:00.0, X, ',
          '[N/A]',
          ', ',
          '\r\n',
          '\n',
          '    ',
          'HKEY_LOCAL_MACHINE\\DirectX\\{0}',
          'REG_BINARY',
          'REG_QWORD    0x',
          'MemTotal:',
          ' kB',
          'Pages free:',
          'page size of ',
          '0::/',
          '{"Name":',
          '[{',
          '}]',
          'luid_0x0_0x1_phys_0',
          'PCI_SLOT_NAME=',
          'pid_1_luid_0x0_0x1_phys_0',
          '<gpu id="',
          '<process_info><pid>',
          '"In use system memory"=',
          'drm-pdev:\t0000:01:00.0\ndrm-client-id:\t1\n',
          'drm-resident-vram:\t',
          'VmRSS:\t',
          'null',
        ),
        fc.string(),
        fc.bigInt({ min: -1n, max: 2n ** 70n }).map(String),
      ),
      { maxLength: 30 },
    )
    .map((parts) => parts.join('')),
);

const parsers: Record<string, (text: string) => unknown> = {
  parseSysctl,
  parseByteCount,
  normalBus,
  parseNvidiaCsv,
  parseMeminfo,
  parseVmStat,
  cgroupFolders,
  parseVideoControllers,
  parseInUse,
  parseFdinfo,
  parseNvidiaXml,
  parsePsLinks,
  parsePsResident,
  parseResident,
  parseProcessUsage,
  parseLoopLine: (text) => parseLoopLine(text, '0_1', [1], true),
  parseAdapterUsage,
  registry: (text) => [driverEntries(parseRegQuery(text)), directXAdapters(parseRegQuery(text))],
  parseCgroup: (text) => parseCgroup({ limit: text, current: text, stat: text }),
  parseDrmCard: (text) =>
    parseDrmCard({
      card: 'card0',
      vendor: '0x1002',
      uevent: text,
      productName: text,
      vramTotal: text,
      vramUsed: text,
      gttTotal: text,
      gttUsed: text,
      lmemTotal: text,
      lmemAvailable: text,
      tileVram: [text],
      voltageLabel: text,
    }),
};

/** Every number anywhere in a parsed value. */
function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (value instanceof Map) return [...value.values()].flatMap(numbersIn);
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

describe('parsers on arbitrary text', () => {
  it.each(Object.entries(parsers))('%s never throws and never makes up a number', (_name, parse) => {
    fc.assert(
      fc.property(anyText, (text) => {
        for (const number of numbersIn(parse(text))) {
          expect(Number.isFinite(number)).toBe(true);
          expect(number).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('free is between 0 and the total, and 0 stays 0', () => {
    const figure = fc.oneof(fc.constantFrom(null, 0), fc.nat());
    fc.assert(
      fc.property(figure, figure, figure, (total, free, used) => {
        const result = freeFrom({ total, free, used });
        if (free === 0) expect(result).toBe(0);
        if (result === null) expect(free).toBeNull();
        else expect(result).toBeGreaterThanOrEqual(0);
        if (result !== null && total !== null) expect(result).toBeLessThanOrEqual(total);
      }),
    );
  });
});

describe('readHardware on a computer that answers nonsense', () => {
  it.each(['linux', 'win32', 'darwin', 'freebsd'] as const)('%s: one believable answer at least', async (platform) => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        const computer = fake({ platform, commands: { '': text } });
        const { gpus } = await readHardware({
          ...computer,
          readText: () => Promise.resolve(text),
          list: () => Promise.resolve(['card0', 'tile0', text]),
        });
        expect(gpus.length).toBeGreaterThan(0);
        expect(new Set(gpus.map((gpu) => gpu.id)).size).toBe(gpus.length);
        for (const gpu of gpus) {
          expect(gpu.name).not.toBe('');
          if (gpu.totalBytes !== null) expect(gpu.totalBytes).toBeGreaterThan(0);
          if (gpu.totalBytes !== null && gpu.freeBytes !== null)
            expect(gpu.freeBytes).toBeLessThanOrEqual(gpu.totalBytes);
          expect(gpu.freeBytes ?? 0).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('failing sources are no failure', async () => {
    const broken = () => Promise.reject(new Error('EIO'));
    for (const platform of ['linux', 'win32', 'darwin'] as const) {
      const computer = fake({ platform });
      const reading = await readHardware({
        ...computer,
        exec: broken,
        readText: broken,
        list: broken,
        controllers: broken,
      });
      expect(reading.gpus[0]?.id).toBe('ram');
    }
  });
});
