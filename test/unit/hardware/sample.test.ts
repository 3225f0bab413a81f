import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { parseInUse } from '../../../src/hardware/apple.js';
import type { Lines } from '../../../src/hardware/lines.js';
import { nodeLines } from '../../../src/hardware/lines.js';
import { type DeviceSample, type DeviceSampler, sampleDevice } from '../../../src/hardware/sample.js';
import { parseLoopLine, windowsLoop } from '../../../src/hardware/windows-loop.js';
import { fake, type FakeComputer, GiB, meminfo, MiB } from './fake.js';

interface FakeTool {
  line: string;
  print: (text: string) => void;
  end: () => void;
  stopped: boolean;
}

/** Programs that print what a test tells them to. */
function fakeLines(missing: string[] = []): Lines & { tools: FakeTool[] } {
  const tools: FakeTool[] = [];
  return {
    tools,
    listen: (command, args, onLine, onEnd) => {
      const tool: FakeTool = { line: [command, ...args].join(' '), print: onLine, end: onEnd, stopped: false };
      if (missing.includes(command)) queueMicrotask(onEnd);
      else tools.push(tool);
      return {
        stop: () => {
          tool.stopped = true;
        },
      };
    },
  };
}

/** Lets answers that are already there arrive. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

const world = (computer: FakeComputer, lines: Lines = fakeLines()) => ({ ...fake(computer), ...lines });

/** Collects samples until `count` are there, then stops. */
async function collect(count: number, start: (onSample: (sample: DeviceSample) => void) => DeviceSampler) {
  const samples: DeviceSample[] = [];
  const sampler = start((sample) => {
    samples.push(sample);
    if (samples.length === count) queueMicrotask(() => sampler.stop());
  });
  expect(await sampler.ended).toBe('stopped');
  return { samples, sampler };
}

const ram = { id: 'ram', vendor: 'none', shared: true, totalBytes: 32 * GiB, address: null } as const;
const card = {
  id: 'nvidia-1',
  vendor: 'nvidia',
  shared: false,
  totalBytes: 10 * GiB,
  address: '0000:02:00.0',
} as const;

describe.skipIf(!existsSync('/proc/self/status'))('the computer’s memory (needs Linux /proc)', () => {
  it('sees a child process take 200 MB', async () => {
    const script =
      "process.stdin.once('data', () => { globalThis.kept = Buffer.alloc(200e6, 1); process.stdout.write('taken'); }); process.stdout.write('ready');";
    const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'ignore'] });
    try {
      await once(child.stdout, 'data');
      const before = await collect(2, (onSample) =>
        sampleDevice({ gpu: ram, provider: 'cpu', pids: () => [child.pid ?? 0], onSample }),
      );
      child.stdin.write('go');
      await once(child.stdout, 'data');
      const after = await collect(2, (onSample) =>
        sampleDevice({ gpu: ram, provider: 'cpu', pids: () => [child.pid ?? 0], onSample }),
      );
      const rise = (after.samples[1]?.oursBytes ?? 0) - (before.samples[1]?.oursBytes ?? 0);
      expect(rise).toBeGreaterThan(190e6);
      expect(rise).toBeLessThan(300e6);
      expect(after.sampler.intervalMs).toBeLessThanOrEqual(100);
      expect(after.samples[1]?.usedBytes).toBeLessThanOrEqual(after.samples[1]?.totalBytes ?? 0);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('this process and all it started count when no ids are given', async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000); console.log("up")']);
    try {
      await once(child.stdout, 'data');
      const own = await collect(1, (onSample) => sampleDevice({ gpu: ram, provider: 'cpu', onSample }));
      expect(own.samples[0]?.oursBytes).toBeGreaterThan(process.memoryUsage.rss() / 2 + 20e6);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('keeps the asked distance and the order of time', async () => {
    const { samples, sampler } = await collect(3, (onSample) =>
      sampleDevice({ gpu: ram, provider: 'cpu', intervalMs: 130, onSample }),
    );
    expect(sampler.intervalMs).toBe(130);
    const times = samples.map(({ atMs }) => atMs);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });
});

describe('stopping', () => {
  it('an aborted signal ends it before the first sample', async () => {
    const samples: DeviceSample[] = [];
    const sampler = sampleDevice({
      gpu: ram,
      provider: 'cpu',
      signal: AbortSignal.abort(),
      onSample: (sample) => samples.push(sample),
    });
    expect(await sampler.ended).toBe('stopped');
    await settle();
    expect(samples).toEqual([]);
  });

  it('abort ends the tools that were started', async () => {
    const lines = fakeLines();
    const abort = new AbortController();
    const sampler = sampleDevice({
      gpu: card,
      provider: 'cuda',
      signal: abort.signal,
      onSample: () => undefined,
      world: world({ platform: 'linux' }, lines),
    });
    await settle();
    lines.tools[0]?.print('10240, 500');
    abort.abort();
    sampler.stop();
    expect(await sampler.ended).toBe('stopped');
    expect(lines.tools.map(({ stopped }) => stopped)).toEqual([true, true]);
  });

  it('really ends a program', async () => {
    const pid = await new Promise<number>((resolve, reject) => {
      const script = 'console.log(process.pid); setInterval(() => {}, 1000)';
      const tool = nodeLines.listen(
        process.execPath,
        ['-e', script],
        (line) => {
          resolve(Number(line));
          tool.stop();
        },
        () => reject(new Error('ended')),
      );
    });
    for (let tries = 0; tries < 100; tries += 1) {
      await settle();
      try {
        process.kill(pid, 0);
      } catch {
        return;
      }
    }
    expect.unreachable('the program still runs');
  });

  it('a program that cannot be started ends the sampling', async () => {
    await new Promise<void>((resolve) => {
      nodeLines.listen('/nonexistent/tool', [], () => undefined, resolve);
    });
  });
});

describe('NVIDIA', () => {
  it('one tool for the card, one for its processes, both long-lived', async () => {
    const lines = fakeLines();
    const samples: DeviceSample[] = [];
    const sampler = sampleDevice({
      gpu: card,
      provider: 'cuda',
      pids: () => [42, 43],
      onSample: (sample) => samples.push(sample),
      world: world({ platform: 'linux' }, lines),
    });
    expect(sampler.intervalMs).toBe(500);
    await settle();
    const [device] = lines.tools;
    expect(device?.line).toContain('--id=0000:02:00.0');
    expect(device?.line).toContain('--loop-ms=500');
    device?.print('10240, 1500');
    const [, apps] = lines.tools;
    expect(apps?.line).toContain('--query-compute-apps=pid,used_memory');
    apps?.print('42, 900');
    apps?.print('43, 100');
    apps?.print('7, 300');
    device?.print('10240, 1600');
    device?.print('[N/A], [N/A]');
    await settle();
    sampler.stop();
    expect(samples.map(({ usedBytes, totalBytes, oursBytes }) => [usedBytes, totalBytes, oursBytes])).toEqual([
      [1500 * MiB, 10240 * MiB, null],
      [1600 * MiB, 10240 * MiB, 1000 * MiB],
    ]);
    device?.print('10240, 1700');
    expect(samples).toHaveLength(2);
    expect(lines.tools).toHaveLength(2);
  });

  it('starts nothing more when the first answer comes after the end', async () => {
    const lines = fakeLines();
    const sampler = sampleDevice({
      gpu: card,
      provider: 'cuda',
      pids: () => [7],
      onSample: () => undefined,
      world: world({ platform: 'linux' }, lines),
    });
    await settle();
    sampler.stop();
    lines.tools[0]?.print('10240, 512');
    expect(lines.tools).toHaveLength(1);
    expect(lines.tools[0]?.stopped).toBe(true);
  });

  it('finds the tool of WSL, and says when the driver went away', async () => {
    const lines = fakeLines(['nvidia-smi']);
    const sampler = sampleDevice({
      gpu: card,
      provider: 'cuda',
      onSample: () => undefined,
      world: world({ platform: 'linux' }, lines),
    });
    await settle();
    expect(lines.tools[0]?.line).toMatch(/^\/usr\/lib\/wsl\/lib\/nvidia-smi/);
    lines.tools[0]?.print('10240, 1');
    lines.tools[0]?.end();
    expect(await sampler.ended).toBe('source-ended');
  });

  it('ends when there is no tool at all', async () => {
    const lines = fakeLines(['nvidia-smi', '/usr/lib/wsl/lib/nvidia-smi', '/usr/bin/nvidia-smi']);
    const options = { gpu: card, provider: 'cuda', onSample: () => undefined } as const;
    const sampler = sampleDevice({ ...options, world: world({ platform: 'linux' }, lines) });
    expect(await sampler.ended).toBe('source-ended');
  });
});

describe('AMD and Intel on Linux', () => {
  const client = (bus: string, lines: string) => `drm-driver:\tx\ndrm-client-id:\t3\ndrm-pdev:\t${bus}\n${lines}`;
  const one = async (gpu: Parameters<typeof sampleDevice>[0]['gpu'], files: Record<string, string>) => {
    const { samples } = await collect(1, (onSample) =>
      sampleDevice({ gpu, provider: 'webgpu', pids: () => [77], onSample, world: world({ platform: 'linux', files }) }),
    );
    return samples[0];
  };

  it('reads the card’s counter and the clients of our processes', async () => {
    const sample = await one(
      { id: 'amd', vendor: 'amd', shared: false, totalBytes: 16 * GiB, address: '0000:03:00.0' },
      {
        '/sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used': String(3 * GiB),
        '/sys/bus/pci/devices/0000:03:00.0/mem_info_gtt_used': String(1 * GiB),
        '/proc/77/task/77/children': '78',
        '/proc/78/fdinfo/9': client('0000:03:00.0', 'drm-resident-vram:\t1024 MiB\ndrm-resident-gtt:\t5 MiB\n'),
      },
    );
    expect(sample).toMatchObject({ usedBytes: 3 * GiB, totalBytes: 16 * GiB, oursBytes: GiB });
  });

  it('processor graphics of AMD: both kinds of memory', async () => {
    const sample = await one(
      { id: 'amd', vendor: 'amd', shared: true, totalBytes: 12 * GiB, address: '0000:c4:00.0' },
      {
        '/sys/bus/pci/devices/0000:c4:00.0/mem_info_vram_used': String(1 * GiB),
        '/sys/bus/pci/devices/0000:c4:00.0/mem_info_gtt_used': String(2 * GiB),
        '/proc/77/fdinfo/9': client('0000:c4:00.0', 'drm-resident-vram:\t8 MiB\ndrm-resident-gtt:\t5 MiB\n'),
      },
    );
    expect(sample).toMatchObject({ usedBytes: 3 * GiB, totalBytes: 12 * GiB, oursBytes: 13 * MiB });
  });

  it('processor graphics of Intel: the computer’s memory, resident sets and buffers', async () => {
    const sample = await one(
      { id: 'intel', vendor: 'intel', shared: true, totalBytes: 16 * GiB, address: '0000:00:02.0' },
      {
        '/proc/meminfo': meminfo(16 * 1024 * 1024, 10 * 1024 * 1024),
        '/proc/77/status': 'VmRSS:\t1024 kB\n',
        '/proc/77/fdinfo/9': client('0000:00:02.0', 'drm-resident-system0:\t96 MiB\n'),
      },
    );
    expect(sample).toMatchObject({ usedBytes: 6 * GiB, totalBytes: 16 * GiB, oursBytes: 97 * MiB });
  });
});

describe('Windows', () => {
  const gpu = { id: 'amd-0', vendor: 'amd', shared: false, totalBytes: 16 * GiB, address: '0_e0a7' } as const;
  const luid = 'luid_0x00000000_0x0000E0A7_phys_0';
  const line = JSON.stringify({
    p: [
      { Name: `pid_42_${luid}`, DedicatedUsage: 900, SharedUsage: 7 },
      { Name: `pid_43_${luid}`, DedicatedUsage: '100', SharedUsage: 0 },
      { Name: `pid_42_luid_0x00000000_0x0000FFFF_phys_0`, DedicatedUsage: 5000, SharedUsage: 0 },
      { Name: `pid_9_${luid}`, DedicatedUsage: 800, SharedUsage: 0 },
    ],
    a: [
      { Name: luid, DedicatedUsage: 2000, SharedUsage: 50 },
      { Name: 'luid_0x00000000_0x0000FFFF_phys_0', DedicatedUsage: 1, SharedUsage: 2 },
    ],
  });

  it('one PowerShell that prints the CIM classes again and again', async () => {
    const lines = fakeLines();
    const samples: DeviceSample[] = [];
    const sampler = sampleDevice({
      gpu,
      provider: 'dml',
      pids: () => [42, 43],
      onSample: (sample) => samples.push(sample),
      world: world({ platform: 'win32' }, lines),
    });
    const [shell] = lines.tools;
    expect(shell?.line).toMatch(/^C:\\.*powershell\.exe -NoProfile -NonInteractive -Command .*while\(\$true\)/);
    shell?.print(line);
    shell?.print('not JSON');
    await settle();
    sampler.stop();
    expect(lines.tools).toHaveLength(1);
    expect(samples).toHaveLength(1);
    expect(samples[0]).toMatchObject({ usedBytes: 2000, oursBytes: 1000, totalBytes: 16 * GiB });
  });

  it('processor graphics: shared memory counts', () => {
    expect(parseLoopLine(line, '0_e0a7', [42], true)).toEqual({ usedBytes: 2050, totalBytes: null, oursBytes: 907 });
  });

  it('without the process counters ours is unknown, not zero', () => {
    const level = parseLoopLine(
      JSON.stringify({ a: [{ Name: luid, DedicatedUsage: 5, SharedUsage: 0 }], p: [] }),
      '0_e0a7',
      [42],
      false,
    );
    expect(level).toEqual({ usedBytes: 5, totalBytes: null, oursBytes: null });
  });

  it('the computer’s memory: working sets of our processes', async () => {
    const lines = fakeLines();
    const { samples } = await collect(1, (onSample) => {
      const sampler = sampleDevice({
        gpu: ram,
        provider: 'cpu',
        pids: () => [42],
        onSample,
        world: world({ platform: 'win32' }, lines),
      });
      lines.tools[0]?.print(
        JSON.stringify({
          w: [
            { Id: 42, WorkingSet64: 700 },
            { Id: 43, WorkingSet64: 1 },
          ],
        }),
      );
      return sampler;
    });
    expect(samples[0]).toMatchObject({ usedBytes: 12 * GiB, totalBytes: 32 * GiB, oursBytes: 700 });
  });

  it('a program’s name cannot end the quotes', () => {
    expect(windowsLoop('working-sets', "it's", 500)).toContain("-Name 'it''s'|");
  });
});

describe('Apple', () => {
  const ioreg = `+-o AGXAcceleratorG13G_B0  <class AGXAcceleratorG13G_B0, id 0x1000004a5, registered, matched, active, busy 0 (0 ms), retain 76>
    {
      "IOClass" = "AGXAcceleratorG13G_B0"
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=3221225472,"Tiler Utilization %"=6,"recoveryCount"=0,"Renderer Utilization %"=6,"In use system memory"=734003200,"Device Utilization %"=6}
      "model" = "Apple M1"
    }
`;

  it('finds what is in use, not what was ever taken', () => {
    expect(parseInUse(ioreg)).toBe(734003200);
    expect(parseInUse('')).toBeNull();
  });

  it('asks for use and resident sets', async () => {
    const { samples } = await collect(1, (onSample) =>
      sampleDevice({
        gpu: { id: 'apple-0', vendor: 'apple', shared: true, totalBytes: 11 * GiB, address: null },
        provider: 'coreml',
        pids: () => [410],
        onSample,
        world: world({
          platform: 'darwin',
          commands: { ioreg, '-axo': '  410   1\n  411   410\n', 'rss=': '  410  1024\n  411  1024\n' },
        }),
      }),
    );
    expect(samples[0]).toMatchObject({ usedBytes: 734003200, totalBytes: 11 * GiB, oursBytes: 2 * MiB });
  });
});
