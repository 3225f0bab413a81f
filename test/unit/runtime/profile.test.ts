import { describe, expect, it } from 'vitest';
import { anonymousBytes, drmBytes } from '../../../src/runtime/device-memory.js';
import { ProfileReader } from '../../../src/runtime/profile.js';

function node(
  name: string,
  index: number,
  levels: { inUse: number; delta: number; peak: number },
  parameter = 0,
): string {
  const args = {
    op_name: 'Gemm',
    provider: 'CPUExecutionProvider',
    node_index: String(index),
    parameter_size: String(parameter),
    output_size: '64',
    activation_size: '32',
    input_type_shape: [{ float: [1, 8] }, { int64: [] }],
    mem_bytes_in_use: String(levels.inUse),
    mem_in_use_delta: String(levels.delta),
    mem_in_use_peak: String(levels.peak),
  };
  return `${JSON.stringify({ cat: 'Node', name: `${name}_kernel_time`, args })},`;
}

const runEnd = '{"cat" : "Session","name" :"model_run","args" : {}},';

function read(lines: string[]): ReturnType<ProfileReader['result']> {
  const reader = new ProfileReader();
  for (const line of ['[', ...lines, ']']) reader.addLine(line);
  return reader.result();
}

describe('ProfileReader', () => {
  it('splits the levels into load, first run and later runs', () => {
    const profile = read([
      node('a', 1, { inUse: 110, delta: 10, peak: 110 }, 7),
      node('b', 2, { inUse: 130, delta: 20, peak: 150 }),
      runEnd,
      node('a', 1, { inUse: 180, delta: 0, peak: 180 }, 7),
      node('b', 2, { inUse: 170, delta: 0, peak: 190 }),
      runEnd,
    ]);
    expect(profile.runs).toBe(2);
    expect(profile.arena).toEqual({ load: 100, cold: 150, warm: 190, peak: 190 });
    expect(profile.nodes.map((entry) => [entry.name, entry.parameterBytes])).toEqual([
      ['a', 7],
      ['b', 0],
    ]);
    expect(profile.nodes[0]?.inputTypes).toEqual(['float', 'int64']);
  });

  it('takes the level of later runs when they stay below the first one', () => {
    const profile = read([
      node('a', 1, { inUse: 110, delta: 10, peak: 200 }),
      runEnd,
      node('a', 1, { inUse: 120, delta: 0, peak: 200 }),
      runEnd,
    ]);
    expect(profile.arena).toEqual({ load: 100, cold: 200, warm: 120, peak: 200 });
  });

  it('has no levels without counters', () => {
    const line = JSON.stringify({ cat: 'Node', name: 'a_kernel_time', args: { provider: 'CPUExecutionProvider' } });
    expect(read([line, runEnd]).arena).toEqual({ load: null, cold: null, warm: null, peak: null });
  });

  it('refuses a damaged line', () => {
    expect(() => read(['{"cat":'])).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
  });
});

describe('device memory of a process', () => {
  it('counts nameless private mappings only', () => {
    const smaps = [
      '55d0a000-55d0b000 rw-p 00000000 00:00 0                          [heap]',
      'Rss:                 500 kB',
      '7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ',
      'Size:                900 kB',
      'Rss:                 100 kB',
      '7f0000002000-7f0000003000 r-xp 00000000 00:01 77                 /memfd:jit (deleted)',
      'Rss:                 300 kB',
      '7f0000004000-7f0000005000 rw-p 00000000 00:00 0 ',
      'Size:                 12 kB',
      'Rss:                  11 kB',
      // Stacks of shader fibers: mapped ahead, hardly touched.
      '7f0000006000-7f000c000000 rw-p 00000000 00:00 0 ',
      'Size:             207380 kB',
      'Rss:                5580 kB',
    ].join('\n');
    expect(anonymousBytes(smaps)).toBe(111 * 1024);
  });

  it('adds what the graphics driver counts, once per client', () => {
    const client = (id: number, lines: string): string =>
      `pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t${id}\n${lines}`;
    const resident = 'drm-total-vram:\t900 KiB\ndrm-resident-vram:\t100 KiB\ndrm-resident-gtt:\t1 MiB\n';
    const bytes = drmBytes([
      client(1, resident),
      client(1, resident),
      client(2, 'drm-memory-vram:\t4 KiB\n'),
      'pos:\t0\n',
    ]);
    expect(bytes).toBe(100 * 1024 + 1024 * 1024 + 4 * 1024);
  });
});
