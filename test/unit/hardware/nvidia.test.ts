import { describe, expect, it } from 'vitest';
import { nvidiaSmiPaths, parseNvidiaCsv } from '../../../src/hardware/nvidia.js';
import { readHardware } from '../../../src/hardware/read.js';
import { drmCard, failed, fake, GiB, meminfo, MiB } from './fake.js';

const rtx3080 =
  '0, GPU-5f0c1f1e-7f1c-4a0e-9d6a-2b1c0d9e8f7a, 00000000:01:00.0, NVIDIA GeForce RTX 3080, 10240, 1203, 8797, 239, [N/A]\n';

describe('parseNvidiaCsv', () => {
  it('reads MiB as bytes', () => {
    expect(parseNvidiaCsv(rtx3080)).toEqual([
      {
        index: 0,
        bus: '0000:01:00.0',
        name: 'NVIDIA GeForce RTX 3080',
        totalBytes: 10240 * MiB,
        usedBytes: 1203 * MiB,
        freeBytes: 8797 * MiB,
        reservedBytes: 239 * MiB,
        mig: false,
        refusal: null,
      },
    ]);
  });

  it('takes no number out of words', () => {
    const [row] = parseNvidiaCsv(
      '0, GPU-1, 00000000:01:00.0, NVIDIA T4, [GPU is lost], [Not Supported], [N/A], [N/A]\n',
    );
    expect(row).toMatchObject({ totalBytes: null, usedBytes: null, freeBytes: null, refusal: '[GPU is lost]' });
  });

  it('reads Windows line ends and units printed against the order', () => {
    const [row] = parseNvidiaCsv('1, GPU-2, 00000000:65:00.0, NVIDIA RTX A6000, 49140 MiB, 3 MiB, 48676 MiB\r\n');
    expect(row).toMatchObject({ index: 1, totalBytes: 49140 * MiB, freeBytes: 48676 * MiB, reservedBytes: null });
  });

  it('passes over everything that is no row', () => {
    expect(parseNvidiaCsv('Field "memory.reserved" is not a valid field to query.\n\n')).toEqual([]);
    expect(parseNvidiaCsv('NVIDIA-SMI has failed because it couldn’t communicate with the NVIDIA driver.')).toEqual([]);
  });
});

describe('readHardware with an NVIDIA driver', () => {
  it('reports total and free as the driver counts them', async () => {
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': rtx3080 } }));
    expect(gpus).toEqual([
      {
        id: 'nvidia-0',
        name: 'NVIDIA GeForce RTX 3080',
        vendor: 'nvidia',
        totalBytes: 10240 * MiB,
        freeBytes: 8797 * MiB,
        heldByOthersBytes: 1203 * MiB,
        heldByUsBytes: null,
        address: '0000:01:00.0',
        shared: false,
        source: 'NVIDIA driver (nvidia-smi)',
        confidence: 'measured',
        providers: ['cuda', 'webgpu'],
        readAt: 1_795_000_000_000,
        notes: [],
      },
    ]);
  });

  it('a full card reads free 0, not empty', async () => {
    const full = '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce GTX 1060 6GB, 6144, 5912, 0, [N/A], [N/A]\n';
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': full } }));
    expect(gpus[0]).toMatchObject({ totalBytes: 6144 * MiB, freeBytes: 0, confidence: 'measured' });
  });

  it('works free out as total - used - reserved when it is not told', async () => {
    const noFree = '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce RTX 2070, 8192, 1000, [N/A], 200, [N/A]\n';
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': noFree } }));
    expect(gpus[0]).toMatchObject({ freeBytes: (8192 - 1200) * MiB, confidence: 'reported' });
  });

  it('asks again without the fields that older drivers refuse', async () => {
    const computer = fake({
      platform: 'linux',
      commands: {
        'memory.reserved': failed('Field "memory.reserved" is not a valid field to query.\n'),
        'nvidia-smi': '0, GPU-1, 00000000:02:00.0, Tesla K80, 11441, 0, 11441\n',
      },
    });
    const { gpus } = await readHardware(computer);
    expect(gpus[0]).toMatchObject({ name: 'Tesla K80', freeBytes: 11441 * MiB });
    expect(computer.ran.filter((line) => line.includes('--query-gpu'))).toHaveLength(2);
  });

  it('finds the tool of WSL outside of PATH', async () => {
    const { gpus } = await readHardware(
      fake({ platform: 'linux', commands: { '/usr/lib/wsl/lib/nvidia-smi': rtx3080 } }),
    );
    expect(gpus[0]?.name).toBe('NVIDIA GeForce RTX 3080');
  });

  it('on Windows looks nowhere but at full paths', () => {
    const paths = nvidiaSmiPaths({ platform: 'win32', env: () => undefined });
    expect(paths.length).toBeGreaterThan(0);
    for (const path of paths) expect(path).toMatch(/^C:\\/);
  });

  it('gives chips with unified memory the computer’s memory and says it is a guess', async () => {
    const gb10 = '0, GPU-1, 0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], [N/A], [N/A], [N/A]\n';
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        commands: { 'nvidia-smi': gb10 },
        files: { '/proc/meminfo': meminfo(127600748, 118566368) },
      }),
    );
    expect(gpus[0]).toMatchObject({
      totalBytes: 127600748 * 1024,
      freeBytes: 118566368 * 1024,
      shared: true,
      confidence: 'guessed',
    });
  });

  it('a discrete card that answers [N/A] stays unknown', async () => {
    const lost = '0, GPU-1, 00000000:01:00.0, NVIDIA GeForce RTX 4090, [GPU is lost], [GPU is lost], [GPU is lost]\n';
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': lost } }));
    expect(gpus[0]).toMatchObject({ totalBytes: null, freeBytes: null, shared: false, confidence: 'unknown' });
    expect(gpus[0]?.notes.join()).toContain('GPU is lost');
  });

  it('says when a card is split into slices', async () => {
    const mig = '0, GPU-1, 00000000:01:00.0, NVIDIA H200, 143771, 50, 143143, 578, Enabled\n';
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': mig } }));
    expect(gpus[0]?.confidence).toBe('reported');
    expect(gpus[0]?.notes.join()).toContain('MIG');
  });

  it('sorts several cards by size and keeps the driver’s order among equals', async () => {
    const rows = [
      '0, GPU-1, 00000000:01:00.0, Quadro P400, 2048, 300, 1700, 48, [N/A]',
      '1, GPU-2, 00000000:02:00.0, NVIDIA RTX A5000, 24564, 10, 24200, 354, [N/A]',
      '2, GPU-3, 00000000:03:00.0, NVIDIA RTX A5000, 24564, 9000, 15210, 354, [N/A]',
    ].join('\n');
    const { gpus } = await readHardware(fake({ platform: 'linux', commands: { 'nvidia-smi': rows } }));
    expect(gpus.map((gpu) => gpu.id)).toEqual(['nvidia-1', 'nvidia-2', 'nvidia-0']);
    expect(gpus[1]?.freeBytes).toBe(15210 * MiB);
  });

  it('a driver that does not answer leaves the kernel’s card with unknown memory and a note', async () => {
    const { gpus } = await readHardware(
      fake({
        platform: 'linux',
        commands: { 'nvidia-smi': failed('Failed to initialize NVML: Driver/library version mismatch\n') },
        files: {
          ...drmCard('card0', {
            vendor: '0x10de\n',
            uevent: 'DRIVER=nvidia\nPCI_ID=10DE:2206\nPCI_SLOT_NAME=0000:01:00.0\n',
          }),
          '/dev/dri/renderD128': '',
        },
      }),
    );
    expect(gpus).toHaveLength(1);
    expect(gpus[0]).toMatchObject({
      id: 'nvidia-0000:01:00.0',
      name: 'NVIDIA GPU (device 2206)',
      totalBytes: null,
      confidence: 'unknown',
    });
    expect(gpus[0]?.notes.join()).toContain('restart of the computer');
  });

  it('a hanging driver ends at the time limit and is told', async () => {
    const reading = await readHardware(
      fake({
        platform: 'linux',
        commands: { 'nvidia-smi': 'hangs' },
        files: { '/proc/meminfo': meminfo(16 * 1024 * 1024, 8 * 1024 * 1024) },
        timeoutMs: 30,
      }),
    );
    expect(reading.gpus[0]).toMatchObject({ id: 'ram', totalBytes: 16 * GiB, freeBytes: 8 * GiB });
    expect(reading.gpus[0]?.notes.join()).toContain('did not answer in time');
  });
});
