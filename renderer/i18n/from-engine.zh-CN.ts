/** Words the engine says in English, in Chinese; what is not listed is shown as it came. */
const sources: Record<string, string> = {
  'NVIDIA driver (nvidia-smi)': ' NVIDIA 驱动（nvidia-smi）',
  'Linux kernel (amdgpu sysfs)': ' Linux 内核（amdgpu sysfs）',
  'Windows registry': ' Windows 注册表',
  'operating system': '操作系统',
};

const kinds: Record<string, string> = {
  'image classifier': '图像分类',
  'text decoder with KV cache': '带 KV 缓存的文本解码器',
  'text decoder': '文本解码器',
  'text encoder': '文本编码器',
  classifier: '分类',
  network: '网络',
};

export const fromEngineZhCN = {
  source: (source: string): string => sources[source] ?? ` ${source}`,
  kind: (kind: string): string => kinds[kind] ?? kind,
};
