import { describe, expect, it } from 'vitest';
import { cgroupFolders, parseCgroup, parseMeminfo } from '../../../src/hardware/ram.js';
import { readHardware } from '../../../src/hardware/read.js';
import { fake, GiB, meminfo } from './fake.js';

describe('memory of the computer', () => {
  it('kernels without MemAvailable: free plus caches', () => {
    const text = 'MemTotal: 8000000 kB\nMemFree: 1000000 kB\nBuffers: 200000 kB\nCached: 300000 kB\n';
    expect(parseMeminfo(text)).toEqual({ totalBytes: 8000000 * 1024, availableBytes: 1500000 * 1024 });
    expect(parseMeminfo('nothing here')).toBeNull();
  });

  it('walks from the process’s control group up to the root', () => {
    expect(cgroupFolders('0::/user.slice/app.scope\n').map(({ folder }) => folder)).toEqual([
      '/sys/fs/cgroup/user.slice/app.scope',
      '/sys/fs/cgroup/user.slice',
      '/sys/fs/cgroup',
    ]);
    expect(cgroupFolders('5:devices:/x\n4:memory:/job\n')).toEqual([
      { folder: '/sys/fs/cgroup/memory/job', version: 1 },
      { folder: '/sys/fs/cgroup/memory', version: 1 },
    ]);
    expect(cgroupFolders('0::/../../etc\n').every(({ folder }) => !folder.includes('..'))).toBe(true);
  });

  it('page cache counts as free, "max" is no limit', () => {
    const stat = 'anon 1000\nfile 600\ninactive_file 500\nactive_file 100\n';
    expect(parseCgroup({ limit: '4000\n', current: '1600\n', stat })).toEqual({ limitBytes: 4000, freeBytes: 2900 });
    expect(parseCgroup({ limit: 'max\n', current: '1600\n', stat })).toBeNull();
    expect(parseCgroup({ limit: '9223372036854771712\n', current: '1', stat: null })).toBeNull();
  });

  it.each([
    ['version 2', '0::/\n', '/sys/fs/cgroup', ['memory.max', 'memory.current']],
    [
      'version 1',
      '4:memory:/docker/abc\n',
      '/sys/fs/cgroup/memory',
      ['memory.limit_in_bytes', 'memory.usage_in_bytes'],
    ],
  ])('respects a container’s limit (%s)', async (_version, self, folder, [limit, current]) => {
    const reading = await readHardware(
      fake({
        platform: 'linux',
        files: {
          '/proc/meminfo': meminfo(64 * 1024 * 1024, 50 * 1024 * 1024),
          '/proc/self/cgroup': self,
          [`${folder}/${limit}`]: String(4 * GiB),
          [`${folder}/${current}`]: String(1 * GiB),
        },
      }),
    );
    expect(reading.ram).toMatchObject({ totalBytes: 4 * GiB, freeBytes: 3 * GiB });
    expect(reading.gpus[0]).toMatchObject({ id: 'ram', totalBytes: 4 * GiB, freeBytes: 3 * GiB });
    expect(reading.gpus[0]?.notes.join()).toContain('limit');
  });

  it('a limit above all memory changes nothing', async () => {
    const { ram } = await readHardware(
      fake({
        platform: 'linux',
        files: {
          '/proc/meminfo': meminfo(8 * 1024 * 1024, 4 * 1024 * 1024),
          '/proc/self/cgroup': '0::/\n',
          '/sys/fs/cgroup/memory.max': String(64 * GiB),
        },
      }),
    );
    expect(ram).toEqual({
      totalBytes: 8 * GiB,
      freeBytes: 4 * GiB,
      heldByUsBytes: null,
      source: 'Linux kernel (/proc/meminfo)',
      confidence: 'measured',
    });
  });
});
