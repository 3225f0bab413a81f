import { describe, expect, it } from 'vitest';
import { isIntegrated } from '../../../src/hardware/finding.js';
import { directXAdapters, driverEntries, parseRegQuery, registryBytes } from '../../../src/hardware/registry.js';
import { readHardware } from '../../../src/hardware/read.js';
import { isCappedAdapterRam, parseVideoControllers } from '../../../src/hardware/windows.js';
import { parseAdapterUsage } from '../../../src/hardware/windows-counters.js';
import { fake, GiB, MiB } from './fake.js';

const classKey =
  'HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}';
const directXKey = 'HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\DirectX';
const end = '\r\nEnd of search: 1 match(es) found.\r\n';

interface Card {
  key: string;
  name: string;
  device: string;
  size?: string;
}
const names = (cards: Card[]) =>
  cards.map((card) => `\r\n${classKey}\\${card.key}\r\n    DriverDesc    REG_SZ    ${card.name}\r\n`).join('') + end;
const devices = (cards: Card[]) =>
  cards.map((card) => `\r\n${classKey}\\${card.key}\r\n    MatchingDeviceId    REG_SZ    ${card.device}\r\n`).join('') +
  end;
const sizes = (cards: Card[]) =>
  cards
    .filter((card) => card.size !== undefined)
    .map((card) => `\r\n${classKey}\\${card.key}\r\n    HardwareInformation.qwMemorySize    ${card.size}\r\n`)
    .join('') + end;

const registry = (cards: Card[], directX = '') => ({
  '/v DriverDesc': names(cards),
  '/v MatchingDeviceId': devices(cards),
  '/v HardwareInformation.qwMemorySize': sizes(cards),
  'Microsoft\\DirectX': directX,
});

const directXOf = (
  entries: {
    name: string;
    vendor: number;
    device: number;
    luid: string;
    dedicated: number;
    shared: number;
    seen?: string;
  }[],
) =>
  `\r\n${directXKey}\r\n    LastSeen    REG_QWORD    0x1db3c5aa8e7d2f1\r\n    Version    REG_SZ    4.09.00.0904\r\n` +
  entries
    .map((entry, index) =>
      [
        `\r\n${directXKey}\\{0000000${index}-6b04-11ef-8e1a-806e6f6e6963}`,
        `    Description    REG_SZ    ${entry.name}`,
        `    VendorId    REG_DWORD    0x${entry.vendor.toString(16)}`,
        `    DeviceId    REG_DWORD    0x${entry.device.toString(16)}`,
        `    AdapterLuid    REG_QWORD    ${entry.luid}`,
        `    DedicatedVideoMemory    REG_QWORD    0x${entry.dedicated.toString(16)}`,
        `    SharedSystemMemory    REG_QWORD    0x${entry.shared.toString(16)}`,
        `    LastSeen    REG_QWORD    ${entry.seen ?? '0x1db3c5aa8e7d2f1'}`,
      ].join('\r\n'),
    )
    .join('\r\n') +
  '\r\n';

const controllers = (list: [name: string, pnp: string, ram: number | null][]) =>
  JSON.stringify(list.map(([Name, PNPDeviceID, AdapterRAM]) => ({ Name, PNPDeviceID, AdapterRAM })));
const usage = (list: [luid: string, dedicated: number, shared: number][]) =>
  JSON.stringify(
    list.map(([luid, DedicatedUsage, SharedUsage]) => ({
      Name: `luid_0x00000000_0x${luid}_phys_0`,
      DedicatedUsage,
      SharedUsage,
    })),
  );

const rx6800: Card = {
  key: '0001',
  name: 'AMD Radeon RX 6800 XT',
  device: 'PCI\\VEN_1002&DEV_73BF&REV_C1',
  size: 'REG_QWORD    0x3ff000000',
};
const rx6800Pnp = 'PCI\\VEN_1002&DEV_73BF&SUBSYS_0E3A1002&REV_C1\\6&1F3A2B4C&0&00000019';
const ramSize = { totalBytes: 32 * GiB, freeBytes: 18 * GiB };

describe('registry text', () => {
  it('reads QWORD, DWORD and little-endian BINARY sizes', () => {
    expect(registryBytes({ type: 'REG_QWORD', data: '0x200000000' })).toBe(8 * GiB);
    expect(registryBytes({ type: 'REG_DWORD', data: '0x8000000' })).toBe(128 * MiB);
    expect(registryBytes({ type: 'REG_BINARY', data: '0000000002000000' })).toBe(8 * GiB);
    expect(registryBytes({ type: 'REG_BINARY', data: '00000040' })).toBe(1 * GiB);
    expect(registryBytes({ type: 'REG_BINARY', data: '' })).toBeNull();
    expect(registryBytes({ type: 'REG_SZ', data: '8 GB' })).toBeNull();
  });

  it('joins answers by key and passes over localised summaries and errors', () => {
    const text = `${names([rx6800])}\r\n错误: 拒绝访问。\r\n${devices([rx6800])}${sizes([rx6800])}`;
    expect(driverEntries(parseRegQuery(text))).toEqual([
      { name: 'AMD Radeon RX 6800 XT', device: 'pci\\ven_1002&dev_73bf&rev_c1', dedicatedBytes: 0x3ff000000 },
    ]);
  });

  it('leaves out adapters DirectX saw before the last start', () => {
    const one = { name: 'Old card', vendor: 0x10de, device: 1, luid: '0xb1a2', dedicated: 2 * GiB, shared: 8 * GiB };
    const adapters = directXAdapters(
      parseRegQuery(
        directXOf([
          { ...one, seen: '0x1d0000000000000' },
          { ...one, name: 'New card', luid: '0x10000e0a7' },
        ]),
      ),
    );
    expect(adapters.map((adapter) => [adapter.name, adapter.luid])).toEqual([['New card', '1_e0a7']]);
  });
});

describe('held by us and by others on Windows', () => {
  const processUsage = (list: [pid: number, luid: string, dedicated: number, shared: number][]) =>
    JSON.stringify(
      list.map(([pid, luid, DedicatedUsage, SharedUsage]) => ({
        Name: `pid_${pid}_luid_0x00000000_0x${luid}_phys_0`,
        DedicatedUsage,
        SharedUsage,
      })),
    );
  const links = JSON.stringify([
    { ProcessId: 0, ParentProcessId: 0 },
    { ProcessId: 4, ParentProcessId: 0 },
    { ProcessId: 900, ParentProcessId: 4 },
    { ProcessId: 901, ParentProcessId: 900 },
    { ProcessId: 55, ParentProcessId: 4 },
  ]);

  it('two equal cards keep their own figures by LUID', async () => {
    const second = { ...rx6800, key: '0002' };
    const { gpus } = await readHardware({
      ...fake({
        platform: 'win32',
        commands: {
          ...registry(
            [rx6800, second],
            directXOf([
              { name: rx6800.name, vendor: 0x1002, device: 0x73bf, luid: '0xe0a7', dedicated: 16 * GiB, shared: 0 },
              { name: rx6800.name, vendor: 0x1002, device: 0x73bf, luid: '0xf1b2', dedicated: 16 * GiB, shared: 0 },
            ]),
          ),
          Win32_VideoController: controllers([
            [rx6800.name, rx6800Pnp, 4293918720],
            [rx6800.name, rx6800Pnp, 4293918720],
          ]),
          GPUAdapterMemory: usage([
            ['0000E0A7', 5 * GiB, 0],
            ['0000F1B2', 1 * GiB, 0],
          ]),
          GPUProcessMemory: processUsage([
            [900, '0000E0A7', 1 * GiB, 0],
            [901, '0000E0A7', 2 * GiB, 64 * MiB],
            [55, '0000E0A7', 1 * GiB, 0],
            [901, '0000F1B2', 256 * MiB, 0],
          ]),
          Win32_Process: links,
        },
        ram: ramSize,
      }),
      pids: [900],
    });
    expect(gpus.map((gpu) => [gpu.address, gpu.heldByUsBytes, gpu.heldByOthersBytes])).toEqual([
      ['0_e0a7', 3 * GiB, 2 * GiB],
      ['0_f1b2', 256 * MiB, 768 * MiB],
    ]);
  });

  it('an NVIDIA card: use by its driver, ours by the counters', async () => {
    const { gpus } = await readHardware({
      ...fake({
        platform: 'win32',
        commands: {
          'nvidia-smi.exe': '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce RTX 3080, 10240, 4096, 6144, 0, [N/A]\r\n',
          Win32_VideoController: controllers([['NVIDIA GeForce RTX 3080', 'PCI\\VEN_10DE&DEV_2206&SUBSYS_1', 1]]),
          'Microsoft\\DirectX': directXOf([
            {
              name: 'NVIDIA GeForce RTX 3080',
              vendor: 0x10de,
              device: 0x2206,
              luid: '0xabcd',
              dedicated: 10 * GiB,
              shared: 0,
            },
          ]),
          GPUProcessMemory: processUsage([[901, '0000ABCD', 3 * GiB, 0]]),
          Win32_Process: links,
        },
        ram: ramSize,
      }),
      pids: [900],
    });
    expect(gpus).toHaveLength(1);
    expect(gpus[0]).toMatchObject({ heldByUsBytes: 3 * GiB, heldByOthersBytes: 1 * GiB, address: '0_abcd' });
  });

  it('without the process counters ours is unknown and the rest counts as others’', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([rx6800]),
          Win32_VideoController: controllers([[rx6800.name, rx6800Pnp, 4293918720]]),
          GPUAdapterMemory: usage([['0000E0A7', 5 * GiB, 0]]),
        },
        ram: ramSize,
      }),
    );
    expect(gpus[0]).toMatchObject({ heldByUsBytes: null, heldByOthersBytes: 5 * GiB });
  });
});

describe('PowerShell JSON', () => {
  it('accepts a list, a single object, a byte order mark and nothing', () => {
    const one = { Name: 'X', PNPDeviceID: null, AdapterRAM: 1073741824 };
    const expected = [{ name: 'X', pciVendor: null, pciDevice: null, adapterRam: GiB, driver: null }];
    expect(parseVideoControllers(JSON.stringify([one]))).toEqual(expected);
    expect(parseVideoControllers(`\uFEFF${JSON.stringify(one)}`)).toEqual(expected);
    expect(parseVideoControllers('')).toEqual([]);
    expect(parseVideoControllers('[null]')).toEqual([]);
  });

  it('sums the physical parts of linked adapters', () => {
    const rows = [0, 1].map((part) => ({
      Name: `luid_0x00000000_0x0000E0A7_phys_${part}`,
      DedicatedUsage: 5,
      SharedUsage: '7',
    }));
    expect(parseAdapterUsage(JSON.stringify(rows))).toEqual([{ luid: '0_e0a7', dedicatedBytes: 10, sharedBytes: 14 }]);
  });
});

describe('readHardware on Windows', () => {
  it('takes the size from the registry, not the capped AdapterRAM, and the use from the counters', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([rx6800]),
          Win32_VideoController: controllers([[rx6800.name, rx6800Pnp, 4293918720]]),
          GPUAdapterMemory: usage([
            ['0000E0A7', 3 * GiB, 200 * MiB],
            ['0000E1B2', 0, 0],
          ]),
        },
        ram: ramSize,
      }),
    );
    expect(gpus).toHaveLength(1);
    expect(gpus[0]).toMatchObject({
      name: 'AMD Radeon RX 6800 XT',
      vendor: 'amd',
      totalBytes: 0x3ff000000,
      freeBytes: 0x3ff000000 - 3 * GiB,
      shared: false,
      confidence: 'reported',
      providers: ['dml', 'webgpu'],
      notes: [],
    });
  });

  it('says that 4095 MB from Windows may be more', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: { Win32_VideoController: controllers([[rx6800.name, rx6800Pnp, 4293918720]]) },
      }),
    );
    expect(gpus[0]).toMatchObject({ totalBytes: 4095 * MiB, freeBytes: null, confidence: 'guessed' });
    expect(gpus[0]?.notes.join(' ')).toContain('at most 4 GB');
  });

  it('knows the cap when it sees it', () => {
    expect([4293918720, 4294967295, 4294967296].map(isCappedAdapterRam)).toEqual([true, true, true]);
    expect([2 * GiB, 3 * GiB, 6 * GiB].map(isCappedAdapterRam)).toEqual([false, false, false]);
  });

  it('leaves out cards that were removed, remote displays and software adapters', async () => {
    const ghost: Card = {
      key: '0000',
      name: 'NVIDIA GeForce GTX 970',
      device: 'pci\\ven_10de&dev_13c2',
      size: 'REG_QWORD    0x100000000',
    };
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([ghost, rx6800]),
          Win32_VideoController: controllers([
            ['Microsoft Remote Display Adapter', 'SWD\\REMOTEDISPLAYENUM\\RDPIDD_INDIRECTDISPLAY', null],
            [rx6800.name, rx6800Pnp, 4293918720],
            ['Parsec Virtual Display Adapter', 'ROOT\\DISPLAY\\0000', null],
          ]),
        },
      }),
    );
    expect(gpus.map((gpu) => gpu.name)).toEqual(['AMD Radeon RX 6800 XT']);
  });

  it('ties usage to adapters by LUID when there are several', async () => {
    const directX = directXOf([
      {
        name: 'AMD Radeon(TM) Graphics',
        vendor: 0x1002,
        device: 0x164e,
        luid: '0xf001',
        dedicated: 512 * MiB,
        shared: 16 * GiB,
      },
      { name: rx6800.name, vendor: 0x1002, device: 0x73bf, luid: '0xe0a7', dedicated: 16 * GiB, shared: 16 * GiB },
      {
        name: 'Microsoft Basic Render Driver',
        vendor: 0x1414,
        device: 0x8c,
        luid: '0xf123',
        dedicated: 0,
        shared: 16 * GiB,
      },
    ]);
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([rx6800], directX),
          Win32_VideoController: controllers([
            ['AMD Radeon(TM) Graphics', 'PCI\\VEN_1002&DEV_164E&SUBSYS_88771043', 536870912],
            [rx6800.name, rx6800Pnp, 4293918720],
          ]),
          GPUAdapterMemory: usage([
            ['0000F001', 100 * MiB, 1 * GiB],
            ['0000E0A7', 6 * GiB, 0],
          ]),
        },
        ram: ramSize,
      }),
    );
    expect(gpus.map((gpu) => [gpu.name, gpu.totalBytes, gpu.freeBytes, gpu.shared])).toEqual([
      ['AMD Radeon RX 6800 XT', 0x3ff000000, 0x3ff000000 - 6 * GiB, false],
      ['AMD Radeon(TM) Graphics', 16 * GiB + 512 * MiB, 412 * MiB + 15 * GiB, true],
    ]);
  });

  it('usage that cannot be tied to one of several cards leaves free unknown', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([rx6800, { ...rx6800, key: '0002' }]),
          Win32_VideoController: controllers([
            [rx6800.name, rx6800Pnp, 4293918720],
            [rx6800.name, rx6800Pnp.replace('19', '08'), 4293918720],
          ]),
          GPUAdapterMemory: usage([['0000E0A7', 6 * GiB, 0]]),
        },
      }),
    );
    expect(gpus.map((gpu) => gpu.freeBytes)).toEqual([null, null]);
    expect(gpus.map((gpu) => gpu.totalBytes)).toEqual([0x3ff000000, 0x3ff000000]);
    expect(new Set(gpus.map((gpu) => gpu.id)).size).toBe(2);
  });

  it('processor graphics: half of memory, not the firmware’s 128 MB', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([
            {
              key: '0000',
              name: 'Intel(R) UHD Graphics 770',
              device: 'PCI\\VEN_8086&DEV_4680',
              size: 'REG_BINARY    0000000800000000',
            },
          ]),
          Win32_VideoController: controllers([
            ['Intel(R) UHD Graphics 770', 'PCI\\VEN_8086&DEV_4680&SUBSYS_7D25', 134217728],
          ]),
        },
        ram: ramSize,
      }),
    );
    expect(gpus[0]).toMatchObject({ totalBytes: 16 * GiB + 128 * MiB, shared: true, confidence: 'guessed' });
  });

  it('shows an NVIDIA card once, by its driver', async () => {
    const smi = '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce RTX 3080 Laptop GPU, 16384, 16384, 0, 0, [N/A]\r\n';
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          'System32\\nvidia-smi.exe': smi,
          Win32_VideoController: controllers([
            ['NVIDIA GeForce RTX 3080 Laptop GPU', 'PCI\\VEN_10DE&DEV_249C&SUBSYS_1043', 4293918720],
            ['Intel(R) Iris(R) Xe Graphics', 'PCI\\VEN_8086&DEV_9A49&SUBSYS_1043', 1073741824],
          ]),
        },
        ram: ramSize,
      }),
    );
    expect(gpus.map((gpu) => [gpu.name, gpu.totalBytes, gpu.freeBytes])).toEqual([
      ['NVIDIA GeForce RTX 3080 Laptop GPU', 16 * GiB, 0],
      ['Intel(R) Iris(R) Xe Graphics', 16 * GiB, 16 * GiB],
    ]);
  });

  it('one hanging PowerShell query does not lose the other answers', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'win32',
        commands: {
          ...registry([rx6800]),
          Win32_VideoController: controllers([[rx6800.name, rx6800Pnp, 4293918720]]),
          GPUAdapterMemory: 'hangs',
        },
        timeoutMs: 50,
      }),
    );
    expect(gpus[0]).toMatchObject({ totalBytes: 0x3ff000000, freeBytes: null, confidence: 'reported' });
  });

  it('without PowerShell the registry alone still tells', async () => {
    const directX = directXOf([
      { name: rx6800.name, vendor: 0x1002, device: 0x73bf, luid: '0xe0a7', dedicated: 16 * GiB, shared: 16 * GiB },
    ]);
    const { gpus } = await readHardware(fake({ platform: 'win32', commands: registry([rx6800], directX) }));
    expect(gpus[0]).toMatchObject({ name: 'AMD Radeon RX 6800 XT', totalBytes: 0x3ff000000 });
  });

  it('runs nothing by a bare name', async () => {
    const computer = fake({ platform: 'win32' });
    await readHardware(computer);
    expect(computer.ran.length).toBeGreaterThan(5);
    for (const line of computer.ran) expect(line).toMatch(/^C:\\/);
  });
});

describe('isIntegrated', () => {
  it.each([
    ['intel', 'Intel(R) UHD Graphics 770', true],
    ['intel', 'Intel(R) Iris(R) Xe Graphics', true],
    ['intel', 'Intel(R) Arc(TM) Graphics', true],
    ['intel', 'Intel(R) Arc(TM) 140V GPU (16GB)', true],
    ['intel', 'Intel(R) Arc(TM) A770 Graphics', false],
    ['intel', 'Intel(R) Arc(TM) A370M Graphics', false],
    ['intel', 'Intel(R) Arc(TM) B580 Graphics', false],
    ['intel', 'Intel(R) Arc(TM) Pro A60 Graphics', false],
    ['intel', 'Intel(R) Iris(R) Xe MAX Graphics', false],
    ['amd', 'AMD Radeon(TM) Graphics', true],
    ['amd', 'AMD Radeon 780M Graphics', true],
    ['amd', 'AMD Radeon(TM) 8060S Graphics', true],
    ['amd', 'AMD Radeon(TM) Vega 8 Graphics', true],
    ['amd', 'AMD Radeon(TM) RX Vega 10 Graphics', true],
    ['amd', 'Radeon RX Vega', false],
    ['amd', 'AMD Radeon RX 6600M', false],
    ['amd', 'AMD Radeon RX 7900 XTX', false],
    ['amd', 'AMD Radeon PRO W7900', false],
    ['nvidia', 'NVIDIA GeForce RTX 4090', false],
    ['nvidia', 'NVIDIA GB10', true],
    ['other', 'Qualcomm(R) Adreno(TM) X1-85 GPU', true],
  ] as const)('%s %s: %s', (vendor, name, expected) => {
    expect(isIntegrated(vendor, name)).toBe(expected);
  });
});
