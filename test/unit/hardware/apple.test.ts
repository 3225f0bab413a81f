import { describe, expect, it } from 'vitest';
import { appleWorkingSetBytes, parseSysctl } from '../../../src/hardware/apple.js';
import { parseVmStat } from '../../../src/hardware/ram.js';
import { readHardware } from '../../../src/hardware/read.js';
import { failed, fake, GiB, MiB } from './fake.js';

const sysctl = (gib: number, limitMb = 0) =>
  `hw.memsize: ${gib * GiB}\nhw.optional.arm64: 1\nmachdep.cpu.brand_string: Apple M2 Max\niogpu.wired_limit_mb: ${limitMb}\n`;
const vmStat = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               65536.
Pages active:                            700000.
Pages inactive:                          262144.
Pages speculative:                        65536.
Pages throttled:                              0.
Pages wired down:                        200000.
Pages purgeable:                         131072.
"Translation faults":                 123456789.
Pages copy-on-write:                    1234567.
`;
const availableBytes = (65536 + 262144 + 65536 + 131072) * 16384; // 8 GiB

describe('macOS figures', () => {
  it('takes 2/3 of memory up to 36 GiB and 3/4 above', () => {
    const ram = { totalBytes: 0, freeBytes: 0, source: '', notes: [] };
    expect(appleWorkingSetBytes(parseSysctl(sysctl(24)), ram)).toBe(16 * GiB);
    expect(appleWorkingSetBytes(parseSysctl(sysctl(36)), ram)).toBe(24 * GiB);
    expect(appleWorkingSetBytes(parseSysctl(sysctl(64)), ram)).toBe(48 * GiB);
  });

  it('follows a limit set by the user, never above all memory', () => {
    const ram = { totalBytes: 0, freeBytes: 0, source: '', notes: [] };
    expect(appleWorkingSetBytes(parseSysctl(sysctl(64, 57344)), ram)).toBe(56 * GiB);
    expect(appleWorkingSetBytes(parseSysctl(sysctl(16, 999999)), ram)).toBe(16 * GiB);
  });

  it('counts pages macOS gives back', () => {
    expect(parseVmStat(vmStat)).toBe(availableBytes);
    expect(parseVmStat('vm_stat: not found')).toBeNull();
  });
});

describe('readHardware on macOS', () => {
  const ram = { totalBytes: 64 * GiB, freeBytes: 300 * MiB };

  it('Apple silicon: unified memory, free bounded by what the computer has free', async () => {
    const { gpus } = await readHardware(
      fake({ platform: 'darwin', commands: { sysctl: sysctl(64), vm_stat: vmStat }, ram, controllers: 'hangs' }),
    );
    expect(gpus).toHaveLength(1);
    expect(gpus[0]).toMatchObject({
      id: 'apple-0',
      name: 'Apple M2 Max',
      vendor: 'apple',
      totalBytes: 48 * GiB,
      freeBytes: availableBytes,
      shared: true,
      confidence: 'guessed',
      providers: ['coreml', 'webgpu'],
    });
  });

  it('what other programs hold for the GPU is not free', async () => {
    const ioreg = '"PerformanceStatistics" = {"Alloc system memory"=9,"In use system memory"=51002736640}';
    const { gpus } = await readHardware(
      fake({ platform: 'darwin', commands: { sysctl: sysctl(64), vm_stat: vmStat, ioreg }, ram, controllers: 'hangs' }),
    );
    expect(gpus[0]?.freeBytes).toBe(48 * GiB - 51002736640);
    expect(gpus[0]).toMatchObject({ heldByOthersBytes: 51002736640, heldByUsBytes: null });
  });

  it('uses what sysctl printed even when it failed on a name it does not know', async () => {
    const text = sysctl(16).replace(/iogpu.*\n/, '');
    const { gpus } = await readHardware(
      fake({
        platform: 'darwin',
        commands: { sysctl: failed(text, "sysctl: unknown oid 'iogpu.wired_limit_mb'"), vm_stat: vmStat },
        ram,
      }),
    );
    expect(gpus[0]).toMatchObject({ totalBytes: Math.floor((16 * GiB * 2) / 3), confidence: 'guessed' });
  });

  it('Intel Macs: what the system profiler lists; free stays unknown', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'darwin',
        commands: {
          sysctl: `hw.memsize: ${16 * GiB}\nmachdep.cpu.brand_string: Intel(R) Core(TM) i7\n`,
          vm_stat: vmStat,
        },
        ram: { totalBytes: 16 * GiB, freeBytes: GiB },
        controllers: [
          { name: 'Intel UHD Graphics 630', vendor: 'Intel', busAddress: '', vramMb: 1536 },
          { name: 'AMD Radeon Pro 5500M', vendor: 'AMD', busAddress: '', vramMb: 4096 },
        ],
      }),
    );
    expect(gpus.map((gpu) => [gpu.name, gpu.totalBytes, gpu.freeBytes, gpu.shared])).toEqual([
      ['AMD Radeon Pro 5500M', 4 * GiB, null, false],
      ['Intel UHD Graphics 630', 16 * GiB, availableBytes, true],
    ]);
  });
});
