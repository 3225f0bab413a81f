import { describe, expect, it } from 'vitest';
import { readHardware } from '../../../src/hardware/read.js';
import { drmCard, fake, GiB, meminfo, MiB, renderNode } from './fake.js';

const uevent = (driver: string, id: string, slot: string) =>
  `DRIVER=${driver}\nPCI_CLASS=30000\nPCI_ID=${id}\nPCI_SUBSYS_ID=1DA2:471E\nPCI_SLOT_NAME=${slot}\n`;
const ram = { '/proc/meminfo': meminfo(32 * 1024 * 1024, 24 * 1024 * 1024) };

const rx7900 = drmCard('card1', {
  vendor: '0x1002\n',
  uevent: uevent('amdgpu', '1002:744C', '0000:03:00.0'),
  mem_info_vram_total: '25753026560\n',
  mem_info_vram_used: '1753026560\n',
  mem_info_gtt_total: '16777216000\n',
  mem_info_gtt_used: '120000000\n',
  'hwmon/hwmon4/in0_label': 'vddgfx\n',
});
const apu = drmCard('card0', {
  vendor: '0x1002\n',
  uevent: uevent('amdgpu', '1002:15BF', '0000:c4:00.0'),
  mem_info_vram_total: String(4 * GiB),
  mem_info_vram_used: String(1 * GiB),
  mem_info_gtt_total: String(14 * GiB),
  mem_info_gtt_used: String(2 * GiB),
  'hwmon/hwmon5/in1_label': 'vddnb\n',
});

describe('AMD on Linux', () => {
  it('reads VRAM from the kernel, the name from systeminformation, never its PCI window', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        files: { ...rx7900, ...ram, ...renderNode },
        controllers: [
          { name: 'Navi 31 [Radeon RX 7900 XTX]', vendor: 'AMD/ATI', busAddress: '03:00.0', vramMb: 32768 },
        ],
      }),
    );
    expect(gpus).toHaveLength(1);
    expect(gpus[0]).toMatchObject({
      id: 'amd-0000:03:00.0',
      name: 'Navi 31 [Radeon RX 7900 XTX]',
      totalBytes: 25753026560,
      freeBytes: 24000000000,
      shared: false,
      confidence: 'measured',
      source: 'Linux kernel (amdgpu)',
      providers: ['webgpu'],
      notes: [],
    });
  });

  it('a full card reads 0 free', async () => {
    const full = { ...rx7900, '/sys/class/drm/card1/device/mem_info_vram_used': '25753026560\n' };
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...full, ...ram, ...renderNode } }));
    expect(gpus[0]?.freeBytes).toBe(0);
  });

  it('adds GTT for processor graphics, bounded by the memory that is free', async () => {
    const low = { '/proc/meminfo': meminfo(32 * 1024 * 1024, 5 * 1024 * 1024) };
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...apu, ...low, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: 18 * GiB, freeBytes: 8 * GiB, shared: true, confidence: 'reported' });
  });

  it('takes 512 MiB with a larger GTT for processor graphics when the sensor is missing, as a guess', async () => {
    const old = drmCard('card0', {
      vendor: '0x1002',
      uevent: uevent('amdgpu', '1002:1638', '0000:04:00.0'),
      mem_info_vram_total: String(512 * MiB),
      mem_info_vram_used: String(112 * MiB),
      mem_info_gtt_total: String(8 * GiB),
      mem_info_gtt_used: '0',
    });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...old, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: 8 * GiB + 512 * MiB, shared: true, confidence: 'guessed' });
  });

  it('discrete comes before processor graphics; connectors are no cards', async () => {
    const files = { ...apu, ...rx7900, ...ram, ...renderNode, '/sys/class/drm/card1-HDMI-A-1/status': 'connected\n' };
    const { gpus } = await readHardware(fake({ platform: 'linux', files }));
    expect(gpus.map((gpu) => gpu.id)).toEqual(['amd-0000:03:00.0', 'amd-0000:c4:00.0']);
  });

  it('the radeon driver tells nothing: unknown, not zero', async () => {
    const old = drmCard('card0', { vendor: '0x1002', uevent: uevent('radeon', '1002:6779', '0000:01:00.0') });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...old, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: null, freeBytes: null, confidence: 'unknown' });
  });

  it('says when a container has no render device', async () => {
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...rx7900, ...ram } }));
    expect(gpus[0]?.notes.join()).toContain('/dev/dri');
  });
});

describe('Intel on Linux', () => {
  const igpu = drmCard('card0', { vendor: '0x8086\n', uevent: uevent('i915', '8086:9A49', '0000:00:02.0') });

  it('processor graphics use the computer’s memory, as a guess', async () => {
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...igpu, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({
      name: 'Intel GPU (device 9a49)',
      totalBytes: 32 * GiB,
      freeBytes: 24 * GiB,
      shared: true,
      confidence: 'guessed',
    });
  });

  it('xe cards: sum over tiles; free stays unknown', async () => {
    const arc = drmCard('card1', {
      vendor: '0x8086',
      uevent: uevent('xe', '8086:E20B', '0000:03:00.0'),
      'tile0/physical_vram_size_bytes': '8589934592\n',
      'tile1/physical_vram_size_bytes': '0x200000000\n',
    });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...igpu, ...arc, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: 16 * GiB, freeBytes: null, shared: false, confidence: 'reported' });
    expect(gpus[1]).toMatchObject({ id: 'intel-0000:00:02.0', shared: true });
  });

  it('i915 cards: lmem of the card folder', async () => {
    const dg2 = drmCard('card1', {
      vendor: '0x8086',
      uevent: uevent('i915', '8086:56A0', '0000:03:00.0'),
      '../lmem_total_bytes': '17079205888\n',
      '../lmem_avail_bytes': '16000000000\n',
    });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...dg2, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: 17079205888, freeBytes: 16000000000, confidence: 'measured' });
  });

  it('a card without figures is unknown and not taken for processor graphics', async () => {
    const a750 = drmCard('card1', { vendor: '0x8086', uevent: uevent('i915', '8086:56A1', '0000:03:00.0') });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...a750, ...ram, ...renderNode } }));
    expect(gpus[0]).toMatchObject({ totalBytes: null, shared: false, confidence: 'unknown' });
  });
});

describe('each GPU once', () => {
  const hybrid = {
    ...drmCard('card0', { vendor: '0x8086', uevent: uevent('i915', '8086:46A6', '0000:00:02.0') }),
    ...drmCard('card1', { vendor: '0x10de', uevent: uevent('nvidia', '10DE:2560', '0000:01:00.0') }),
  };
  const smi = '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce RTX 3060 Laptop GPU, 6144, 5, 5921, 218, [N/A]\n';

  it('joins the driver’s and the kernel’s view by bus address', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        files: { ...hybrid, ...ram, ...renderNode },
        commands: { 'nvidia-smi': smi },
        controllers: [
          { name: 'Alder Lake-P GT2 [Iris Xe Graphics]', vendor: 'Intel', busAddress: '00:02.0', vramMb: 256 },
          { name: 'GA106M', vendor: 'NVIDIA', busAddress: '01:00.0', vramMb: 16384 },
        ],
      }),
    );
    expect(gpus.map((gpu) => [gpu.name, gpu.totalBytes])).toEqual([
      ['NVIDIA GeForce RTX 3060 Laptop GPU', 6144 * MiB],
      ['Alder Lake-P GT2 [Iris Xe Graphics]', 32 * GiB],
    ]);
  });

  it('does without names when systeminformation hangs', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        files: { ...hybrid, ...ram, ...renderNode },
        commands: { 'nvidia-smi': smi },
        controllers: 'hangs',
        timeoutMs: 30,
      }),
    );
    expect(gpus.map((gpu) => gpu.name)).toEqual(['NVIDIA GeForce RTX 3060 Laptop GPU', 'Intel GPU (device 46a6)']);
  });

  it('does not ask systeminformation when the driver named everything', async () => {
    let asked = 0;
    const computer = fake({ platform: 'linux', commands: { 'nvidia-smi': smi }, files: ram });
    await readHardware({ ...computer, controllers: () => Promise.resolve((asked += 1)).then(() => []) });
    expect(asked).toBe(0);
  });
});

describe('no GPU', () => {
  it('plans for the computer’s memory', async () => {
    const reading = await readHardware(fake({ platform: 'linux', files: ram }));
    expect(reading.gpus).toHaveLength(1);
    expect(reading.gpus[0]).toMatchObject({
      id: 'ram',
      vendor: 'none',
      totalBytes: 32 * GiB,
      freeBytes: 24 * GiB,
      providers: ['cpu'],
    });
    expect(reading.gpus[0]?.notes[0]).toBe('No GPU memory found: plan for this computer’s memory.');
    expect(reading).toMatchObject({
      ram: { totalBytes: 32 * GiB },
      cpu: { name: 'Test CPU', cores: 8 },
      platform: 'linux',
    });
  });

  it.each([
    ['VirtIO', '0x1af4', 'virtio-pci'],
    ['QEMU', '0x1234', 'bochs-drm'],
    ['VMware', '0x15ad', 'vmwgfx'],
    ['a server console chip', '0x1a03', 'ast'],
  ])('takes %s for no GPU', async (_name, vendor, driver) => {
    const card = drmCard('card0', { vendor, uevent: uevent(driver, '1234:1111', '0000:00:01.0') });
    const { gpus } = await readHardware(fake({ platform: 'linux', files: { ...card, ...ram } }));
    expect(gpus.map((gpu) => gpu.id)).toEqual(['ram']);
  });

  it('takes llvmpipe from systeminformation for no GPU', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        files: ram,
        controllers: [{ name: 'llvmpipe (LLVM 15.0.7, 256 bits)', vendor: 'Mesa', busAddress: '', vramMb: 31000 }],
      }),
    );
    expect(gpus[0]?.id).toBe('ram');
  });

  it('a card that only lspci lists has unknown memory, whatever its PCI window', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        files: ram,
        controllers: [{ name: 'Radeon RX 460', vendor: 'AMD', busAddress: '01:00.0', vramMb: 256 }],
      }),
    );
    expect(gpus[0]).toMatchObject({ name: 'Radeon RX 460', vendor: 'amd', totalBytes: null, confidence: 'unknown' });
  });

  it('explains itself inside WSL', async () => {
    const files = { ...ram, '/proc/version': 'Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x)' };
    const { gpus } = await readHardware(fake({ platform: 'linux', files }));
    expect(gpus[0]?.notes.join()).toContain('WSL');
  });

  it('asks elsewhere for the processor’s name when Node has none', async () => {
    const { cpu } = await readHardware(fake({ platform: 'linux', files: ram, cpuName: 'unknown' }));
    expect(cpu.name).toBe('ARM Cortex-A76');
  });

  it('lists only providers that are installed', async () => {
    const computer = fake({ platform: 'linux', files: { ...rx7900, ...ram, ...renderNode } });
    const reading = await readHardware({ ...computer, providers: ['cpu', 'cuda'] });
    expect(reading.gpus[0]?.providers).toEqual([]);
  });
});
