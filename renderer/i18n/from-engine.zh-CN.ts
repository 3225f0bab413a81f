/** Words the engine says in English, in Chinese; what is not listed is shown as it came. */
const sources: [RegExp, string][] = [
  [/^NVIDIA driver \((.*)\)$/, ' NVIDIA 驱动（$1）'],
  [/^Linux kernel \((.*)\)$/, ' Linux 内核（$1）'],
  [/^Windows \(display driver registry\)$/, ' Windows 显示驱动注册表'],
  [/^Windows \(DirectX registry\)$/, ' Windows DirectX 注册表'],
  [/^Windows \(video controller\)$/, ' Windows 显卡信息'],
  [/^macOS \((.*)\)$/, ' macOS（$1）'],
  [/^operating system$/, '操作系统'],
  [/^entered by you$/, '你的输入'],
  [/^control group limit$/, '控制组限制'],
];

const notes: [RegExp, string][] = [
  [/^The NVIDIA driver was updated/, 'NVIDIA 驱动已更新，需要重启电脑才会应答。'],
  [/^The NVIDIA tool nvidia-smi is installed/, '已安装 nvidia-smi，但驱动没有应答。'],
  [/^The NVIDIA driver did not answer in time/, 'NVIDIA 驱动没有及时应答。'],
  [/^The NVIDIA driver is installed but found no GPU/, '已安装 NVIDIA 驱动，但没有找到 GPU。'],
  [/^This GPU shares the computer’s memory/, '这块 GPU 与电脑共用内存，驱动没有给出自己的数字。'],
  [/^Free memory was worked out as total minus used/, '空闲内存由总量减去已用量得出。'],
  [/^This card is split into slices/, '这块显卡已分片（MIG），程序只能用到所在分片的显存。'],
  [/^A limit set for this process/, '以本进程的限制（容器或服务）为准，而不是整台电脑的内存。'],
  [/^Windows reports at most 4 GB here/, 'Windows 在这里最多报告 4 GB，显卡实际可能更多。如果知道大小，请自行填写。'],
  [/enter the size by hand\.$/, '无法得知显存大小，请自行填写。'],
  [/^How much of it is free could not be read/, '无法读取有多少空闲。'],
  [/^All of it is taken to be free/, '按全部空闲计算。'],
  [/^Inside WSL only NVIDIA GPUs/, 'WSL 中只有 NVIDIA GPU 会给出显存大小；Windows 版 Snug 能看到其他 GPU。'],
  [
    /^Programs cannot reach the GPU from here/,
    '程序在这里访问不到 GPU：/dev/dri 中没有渲染设备（容器没有分配 GPU？）。',
  ],
  [/^Graphics in the processor: its own memory plus/, '处理器内置图形：自有显存加上驱动可用的系统内存（GTT）。'],
  [
    /^Graphics in the processor: it shares the computer’s memory, of which Windows/,
    '处理器内置图形：与电脑共用内存，Windows 约借给它一半。',
  ],
  [/^Graphics in the processor/, '处理器内置图形：使用电脑的内存。'],
  [/^The GPU shares the computer’s memory; the part macOS/, 'GPU 与电脑共用内存；macOS 允许使用的部分按经验估计。'],
  [
    /^The GPU shares the computer’s memory, up to the limit/,
    'GPU 与电脑共用内存，上限为本机所设（iogpu.wired_limit_mb）。',
  ],
  [/^No GPU memory found/, '没有找到显存：按本机内存规划。'],
];

const kinds: Record<string, string> = {
  'image classifier': '图像分类',
  'image network': '图像网络',
  'image to image network': '图像到图像网络',
  'text decoder with KV cache': '带 KV 缓存的文本解码器',
  'text decoder': '文本解码器',
  'text encoder': '文本编码器',
  network: '网络',
};

function replaceFirst(text: string, table: [RegExp, string][]): string | null {
  const found = table.find(([pattern]) => pattern.test(text));
  if (found === undefined) return null;
  const [pattern, words] = found;
  return words.includes('$1') ? text.replace(pattern, words) : words;
}

export const fromEngineZhCN = {
  source: (source: string): string => replaceFirst(source, sources) ?? ` ${source}`,
  note: (note: string): string => replaceFirst(note, notes) ?? note,
  kind: (kind: string): string => kinds[kind] ?? kind,
};
