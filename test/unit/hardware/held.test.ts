import { describe, expect, it } from 'vitest';
import { drmHeldBy, parseFdinfo, sumClients } from '../../../src/hardware/fdinfo.js';
import { nvidiaHeldBy, parseNvidiaXml } from '../../../src/hardware/nvidia.js';
import { parsePsLinks, parsePsResident, processTree, withDescendants } from '../../../src/hardware/processes.js';
import { readHardware } from '../../../src/hardware/read.js';
import { drmCard, fake, GiB, meminfo, MiB, renderNode } from './fake.js';

const amdClient = (id: number, vramKib: number, gttKib: number) =>
  `pos:\t0\nflags:\t02400002\nmnt_id:\t24\nino:\t521\ndrm-driver:\tamdgpu\ndrm-client-id:\t${id}\ndrm-pdev:\t0000:03:00.0\npasid:\t32773\n` +
  `drm-total-cpu:\t0\ndrm-shared-cpu:\t0\ndrm-resident-cpu:\t0\ndrm-total-gtt:\t${gttKib + 400} KiB\ndrm-resident-gtt:\t${gttKib} KiB\n` +
  `drm-total-vram:\t${vramKib + 900} KiB\ndrm-shared-vram:\t12 KiB\ndrm-resident-vram:\t${vramKib} KiB\ndrm-memory-vram:\t${vramKib} KiB\n` +
  `amd-evicted-vram:\t0 KiB\ndrm-engine-gfx:\t1234567 ns\n`;

describe('fdinfo', () => {
  it('reads amdgpu, xe and i915, the resident figure first', () => {
    expect(parseFdinfo(amdClient(7, 2048, 1024))).toEqual({
      bus: '0000:03:00.0',
      client: '7',
      ownBytes: 2048 * 1024,
      systemBytes: 1024 * 1024,
    });
    const xe =
      'drm-driver:\txe\ndrm-client-id:\t41\ndrm-pdev:\t0000:03:00.0\ndrm-total-system:\t0\ndrm-resident-system:\t8 MiB\ndrm-total-gtt:\t0\ndrm-resident-gtt:\t0\ndrm-total-vram0:\t192 MiB\ndrm-resident-vram0:\t190 MiB\ndrm-total-stolen:\t0\n';
    expect(parseFdinfo(xe)).toMatchObject({ ownBytes: 190 * MiB, systemBytes: 8 * MiB });
    const i915 =
      'drm-driver: i915\ndrm-client-id: 5\ndrm-pdev: 0000:00:02.0\ndrm-total-system0: 128 MiB\ndrm-resident-system0: 96 MiB\ndrm-total-stolen-system0: 3 MiB\n';
    expect(parseFdinfo(i915)).toMatchObject({ bus: '0000:00:02.0', ownBytes: 0, systemBytes: 96 * MiB });
  });

  it('falls back to the totals and to the names of older kernels', () => {
    const head = 'drm-client-id:\t1\ndrm-pdev:\t0000:03:00.0\n';
    expect(parseFdinfo(`${head}drm-total-vram:\t4096\n`)?.ownBytes).toBe(4096);
    expect(parseFdinfo(`${head}drm-memory-vram:\t64 KiB\ndrm-memory-gtt:\t2 KiB\n`)).toMatchObject({
      ownBytes: 64 * 1024,
      systemBytes: 2048,
    });
  });

  it('tells nothing of other files and of drivers without figures', () => {
    expect(parseFdinfo('pos:\t0\nflags:\t0100002\nmnt_id:\t14\n')).toBeNull();
    expect(parseFdinfo('drm-driver:\tnvidia-drm\ndrm-pdev:\t0000:01:00.0\n')).toBeNull();
  });

  it('counts a client once, however often it is open and in how many processes', async () => {
    const files = {
      '/proc/10/fdinfo/5': amdClient(7, 2048, 0),
      '/proc/10/fdinfo/6': amdClient(7, 2048, 0),
      '/proc/11/fdinfo/9': amdClient(7, 2048, 0),
      '/proc/11/fdinfo/10': amdClient(8, 100, 0),
      '/proc/12/fdinfo/1': amdClient(9, 5000, 0),
    };
    const held = await drmHeldBy(fake({ platform: 'linux', files }) as never, [10, 11]);
    expect(held.get('0000:03:00.0')?.ownBytes).toBe(2148 * 1024);
    expect(sumClients([]).size).toBe(0);
  });
});

const xml = (processes: string) => `<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
	<driver_version>550.120</driver_version>
	<cuda_version>12.4</cuda_version>
	<attached_gpus>1</attached_gpus>
	<gpu id="00000000:01:00.0">
		<product_name>NVIDIA GeForce RTX 3080</product_name>
		<processes>${processes}
		</processes>
	</gpu>
</nvidia_smi_log>
`;
const info = (pid: number, type: string, used: string) => `
			<process_info>
				<gpu_instance_id>N/A</gpu_instance_id>
				<compute_instance_id>N/A</compute_instance_id>
				<pid>${pid}</pid>
				<type>${type}</type>
				<process_name>/usr/bin/node</process_name>
				<used_memory>${used}</used_memory>
			</process_info>`;
const row = (used: number | null) => ({ bus: '0000:01:00.0', usedBytes: used });

describe('processes of the NVIDIA driver', () => {
  it('lists compute and graphics contexts', () => {
    const processes = parseNvidiaXml(xml(info(100, 'G', '45 MiB') + info(4242, 'C+G', '1024 MiB')));
    expect(processes).toEqual([
      { bus: '0000:01:00.0', pid: 100, usedBytes: 45 * MiB },
      { bus: '0000:01:00.0', pid: 4242, usedBytes: 1024 * MiB },
    ]);
    expect(nvidiaHeldBy(row(1100 * MiB), processes, [4242, 4243])).toBe(1024 * MiB);
    expect(nvidiaHeldBy(row(1100 * MiB), processes, [5])).toBe(0);
  });

  it('is null where Windows gives no figure and where a container hides the processes', () => {
    const windows = parseNvidiaXml(xml(info(4242, 'C', 'N/A')));
    expect(nvidiaHeldBy(row(5000 * MiB), windows, [4242])).toBeNull();
    expect(nvidiaHeldBy(row(5000 * MiB), [], [4242])).toBeNull();
    expect(nvidiaHeldBy(row(3 * MiB), [], [4242])).toBe(0);
  });

  it('splits what is in use', async () => {
    const { gpus } = await readHardware({
      ...fake({
        platform: 'linux',
        commands: {
          '-q -x': xml(info(4242, 'C', '1000 MiB')),
          'nvidia-smi': '0, GPU-5f0c, 00000000:01:00.0, NVIDIA GeForce RTX 3080, 10240, 1203, 8797, 239, [N/A]\n',
        },
      }),
      pids: [4242],
    });
    expect(gpus[0]).toMatchObject({
      heldByUsBytes: 1000 * MiB,
      heldByOthersBytes: 203 * MiB,
      driver: '550.120',
      address: '0000:01:00.0',
    });
  });
});

describe('the process tree', () => {
  it('follows the kernel’s lists of children over all threads', async () => {
    const files = {
      '/proc/1/task/1/children': '20 21 ',
      '/proc/1/task/5/children': '22 ',
      '/proc/20/task/20/children': '30 ',
      '/proc/30/task/30/children': '',
      '/proc/99/task/99/children': '98 ',
    };
    const tree = await processTree(fake({ platform: 'linux', files }) as never, [1]);
    expect(tree.toSorted((a, b) => a - b)).toEqual([1, 20, 21, 22, 30]);
  });

  it('reads ps of macOS', () => {
    const links = parsePsLinks('    1     0\n  410     1\n  411   410\n  412   411\n  500     1\n');
    expect(withDescendants([410], links).toSorted((a, b) => a - b)).toEqual([410, 411, 412]);
    expect(parsePsResident('  410  51200\n  411   1024\n')).toBe(52224 * 1024);
  });

  it('ends on a circle', () => {
    const links = [
      { pid: 1, parent: 2 },
      { pid: 2, parent: 1 },
    ];
    expect(withDescendants([1], links)).toEqual([1, 2]);
  });
});

describe('held by us and by others', () => {
  const uevent = 'DRIVER=amdgpu\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0\n';
  const ram = { '/proc/meminfo': meminfo(32 * 1024 * 1024, 24 * 1024 * 1024) };

  it('AMD on Linux: own memory alone on a card, GTT as well on processor graphics', async () => {
    const device = {
      vendor: '0x1002\n',
      uevent,
      product_name: 'Radeon',
      mem_info_vram_total: String(16 * GiB),
      mem_info_vram_used: String(3 * GiB),
      mem_info_gtt_total: String(8 * GiB),
      mem_info_gtt_used: String(1 * GiB),
    };
    const ours = { '/proc/77/fdinfo/4': amdClient(1, 1024 * 1024, 512 * 1024) };
    const card = await readHardware({
      ...fake({ platform: 'linux', files: { ...drmCard('card0', device), ...ram, ...renderNode, ...ours } }),
      pids: [77],
    });
    expect(card.gpus[0]).toMatchObject({ heldByUsBytes: 1 * GiB, heldByOthersBytes: 2 * GiB });
    const apu = { ...drmCard('card0', { ...device, 'hwmon/hwmon1/in1_label': 'vddnb\n' }) };
    const shared = await readHardware({
      ...fake({ platform: 'linux', files: { ...apu, ...ram, ...renderNode, ...ours } }),
      pids: [77],
    });
    expect(shared.gpus[0]).toMatchObject({ heldByUsBytes: 1.5 * GiB, heldByOthersBytes: 2.5 * GiB, shared: true });
  });

  it('a full card is full of others’ memory', async () => {
    const device = {
      vendor: '0x1002\n',
      uevent,
      product_name: 'Radeon',
      mem_info_vram_total: String(8 * GiB),
      mem_info_vram_used: String(8 * GiB),
    };
    const { gpus } = await readHardware(
      fake({ platform: 'linux', files: { ...drmCard('card0', device), ...ram, ...renderNode } }),
    );
    expect(gpus[0]).toMatchObject({ freeBytes: 0, heldByOthersBytes: 8 * GiB, heldByUsBytes: 0 });
  });

  it('Intel’s xe: use summed over the processes that can be read, said to be a lower bound', async () => {
    const xe = (id: number, mib: number) =>
      `drm-driver:\txe\ndrm-client-id:\t${id}\ndrm-pdev:\t0000:03:00.0\ndrm-resident-vram0:\t${mib} MiB\n`;
    const { gpus } = await readHardware({
      ...fake({
        platform: 'linux',
        files: {
          ...drmCard('card0', {
            vendor: '0x8086\n',
            uevent: 'DRIVER=xe\nPCI_ID=8086:E20B\nPCI_SLOT_NAME=0000:03:00.0\n',
            product_name: 'Arc B580',
            'tile0/physical_vram_size_bytes': '0x2f0000000\n',
          }),
          ...ram,
          ...renderNode,
          '/proc/50/fdinfo/3': xe(1, 700),
          '/proc/77/fdinfo/3': xe(2, 300),
        },
      }),
      pids: [77],
    });
    expect(gpus[0]).toMatchObject({
      totalBytes: 0x2f0000000,
      freeBytes: 0x2f0000000 - 1000 * MiB,
      heldByUsBytes: 300 * MiB,
      heldByOthersBytes: 700 * MiB,
      confidence: 'reported',
    });
    expect(gpus[0]?.notes.join()).toContain('may hold more');
  });

  it('this computer’s memory: resident sets of our processes', async () => {
    const { gpus, ram: memory } = await readHardware({
      ...fake({
        platform: 'linux',
        files: {
          ...ram,
          '/proc/77/status': 'Name:\tnode\nVmRSS:\t  1048576 kB\n',
          '/proc/77/task/77/children': '78 ',
          '/proc/78/status': 'Name:\tnode\nVmRSS:\t  1048576 kB\n',
        },
      }),
      pids: [77],
    });
    expect(memory.heldByUsBytes).toBe(2 * GiB);
    expect(gpus[0]).toMatchObject({ id: 'ram', heldByUsBytes: 2 * GiB, heldByOthersBytes: 6 * GiB });
  });

  it('this very process', async () => {
    const { ram: memory } = await readHardware();
    if (process.platform === 'linux') expect(memory.heldByUsBytes).toBeGreaterThan(10 * MiB);
  });
});
