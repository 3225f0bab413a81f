import type { Dtype, DamageBand, JobPhase, Provider, PruneMethod, Verdict } from '../../src/contract/types.js';
import type { PartName } from '../view/bar.js';
import { accuracyZhCN } from './accuracy.zh-CN.js';
import { adjustZhCN } from './adjust.zh-CN.js';
import { damageZhCN } from './damage.zh-CN.js';
import type { en } from './en.js';
import { engineZhCN } from './engine.zh-CN.js';
import { errorsZhCN } from './errors.zh-CN.js';
import { createFormats } from './format.js';
import { fromEngineZhCN } from './from-engine.zh-CN.js';
import { outcomeZhCN } from './outcome.zh-CN.js';
import { planZhCN } from './plan.zh-CN.js';
import { trainingZhCN } from './training.zh-CN.js';

const format = createFormats('zh-CN');
const { bytes, count, percent } = format;

const dtype: Record<Dtype, string> = {
  fp32: '32 位浮点',
  fp16: '16 位浮点',
  int8: '8 位权重',
  'int8-dynamic': '8 位动态',
  'int8-static': '8 位校准',
  int4: '4 位权重',
  nf4: '4 位查表权重',
  int2: '2 位权重',
};
const damage: Record<DamageBand, string> = {
  none: '无',
  negligible: '可忽略',
  small: '小',
  moderate: '中等',
  large: '大',
  severe: '严重',
  unknown: '尚不清楚',
};
const provider: Record<Provider, string> = {
  cpu: 'CPU',
  cuda: 'CUDA',
  dml: 'DirectML',
  webgpu: 'WebGPU',
  coreml: 'Core ML',
};
const part: Record<PartName, string> = {
  weights: '权重',
  activations: '激活值',
  cache: '缓存',
  workspace: '工作区',
  runtime: '运行时',
  training: '训练状态',
};
const partHelp: Record<PartName, string> = {
  weights: '模型训练得到的数值',
  activations: '运行时层与层之间的数值',
  cache: '解码器记住的键和值',
  workspace: '个别层需要的临时空间',
  runtime: 'ONNX Runtime 自身占用',
  training: '累加的梯度，以及优化器为每个数值记住的内容',
};
const verdict: Record<Verdict, string> = {
  fits: '放得下',
  tight: '勉强',
  'does-not-fit': '放不下',
  'cannot-tell': '无法判断',
};
const phase: Record<JobPhase, string> = {
  reading: '读取模型',
  planning: '选择方案',
  pruning: '剪枝',
  recovering: '训练剩下的部分',
  quantizing: '压缩权重',
  writing: '写入文件',
  checking: '检查能否运行',
  comparing: '比较答案',
};
const step: Record<JobPhase, string> = {
  reading: '读取',
  planning: '规划',
  pruning: '剪枝',
  recovering: '恢复',
  quantizing: '压缩',
  writing: '写入',
  checking: '检查',
  comparing: '比较',
};
const method: Record<PruneMethod, string> = {
  random: '随机',
  magnitude: '从最小的开始',
  activation: '从最不活跃的开始',
  repair: '剪枝并修复',
};

export const zhCN = {
  format,
  dtype,
  damage,
  provider,
  part,
  partHelp,
  verdict,
  phase,
  step,
  method,
  accuracy: accuracyZhCN(format),
  adjust: adjustZhCN(format),
  training: trainingZhCN(format),
  engine: engineZhCN(dtype, bytes),
  error: errorsZhCN(format),

  app: {
    name: 'Snug',
    language: '语言',
    theme: '外观',
    themes: { auto: '跟随系统', light: '浅色', dark: '深色' },
    back: '换一个模型',
    close: '关闭',
    dismiss: '知道了',
    table: '以表格显示',
    privacy: '模型不会离开这台电脑。',
    version: (version, runtime) => `Snug ${version} · ONNX Runtime ${runtime}`,
    listJoin: (list) => list.join('、'),
    stop: '。',
    clauses: (list) => list.join('，'),
  },

  drop: {
    title: '把模型拖到这里',
    hint: '一个 .onnx 文件、一个文件夹，或模型连同它的数据文件',
    choose: '选择文件',
    chooseFolder: '选择文件夹',
    release: '松开即可打开',
    opening: (name) => `正在打开 ${name}…`,
    oneAtATime: '这里有多个模型，请一次拖入一个。',
    samples: '或试试示例',
    withData: '附样本',
    sample: (name, size) => `${name}，${bytes(size)}`,
    recent: '最近打开',
    recentMissing: '文件已不在',
    recentNone: '打开过的模型会列在这里。',
  },

  hardware: {
    title: '可用的内存',
    reading: '正在读取 GPU…',
    device: '设备',
    reread: '重新读取',
    thisComputer: '目标设备',
    here: '本机',
    other: '其他',
    otherTitle: '为另一块 GPU 规划',
    otherSize: '另一块 GPU 的显存',
    gigabytes: (n) => `${count(n)} GB`,
    ramName: '本机内存',
    manualName: (total) => `一块 ${bytes(total)} 的 GPU`,
    totalFree: (total, free) => `共 ${bytes(total)}，现有 ${bytes(free)} 空闲`,
    totalOnly: (total) => `共 ${bytes(total)}`,
    unknownSize: '显存大小未知',
    shared: '与系统共用',
    note: fromEngineZhCN.note,
    source: (source, confidence) =>
      confidence === 'guessed'
        ? `由${fromEngineZhCN.source(source)}推测得出。如果知道实际大小，请自行填写。`
        : `读取自${fromEngineZhCN.source(source)}`,
    entered: '由你填写',
    ramSource: '读取自操作系统',
    none: '没有找到显存，Snug 改为按本机内存规划；如果要为别处的 GPU 规划，请另选大小。',
    failed: '无法读取 GPU，请在下面填写显存大小。',
  },

  bar: {
    others: '其他程序占用',
    kept: '预留',
    free: '空闲',
    budget: '预算',
    budgetMark: (value) => `预算：${bytes(value)}`,
    budgetField: '预算',
    unit: '单位',
    budgetFrom: (value) => `Snug 的选择：${bytes(value)}，即空闲部分减去预留`,
    beyond: (value) => `预算 ${bytes(value)}`,
    cut: (total) => `按模型自身的大小绘制；整个设备共 ${bytes(total)}。`,
    now: '原样',
    snug: '用 Snug',
    smallest: '最小',
    before: '之前',
    predicted: '预测',
    measured: '实测',
    measuredPart: '实测峰值',
    device: '当前',
    over: '超出预算',
    share: (name, size, share) => `${name}：${bytes(size)}，${percent(share)}`,
    largest: (list) => `最大的：${list.map((each) => `${each.name}（${bytes(each.size)}）`).join('、')}`,
    label: (rows, budget) =>
      `内存。${rows.map((row) => `${row.name}：${bytes(row.size)}`).join('；')}。${
        budget === null ? '' : `预算：${bytes(budget)}。`
      }`,
    deviceLabel: (total, others, kept) =>
      `内存共 ${bytes(total)}：${others === null ? '' : `其他程序占用 ${bytes(others)}，`}可用 ${bytes(
        total - (others ?? 0) - kept,
      )}，预留 ${bytes(kept)}。`,
    more: '增加预算',
    less: '减少预算',
  },

  ...planZhCN(format),

  reason: {
    alreadyFits: '原样就放得下，所以损失最小的方案是什么都不改。',
    chosen: '在所有放得下的方案里，这一个预计对答案的影响最小。',
    pinned: (what) => `由你设定：${what}。`,
    noSamples: '没有样本：需要校准的方案没有考虑。',
    stayedLarge: (weight, why) => `“${weight}” 保持不变：${why}。`,
    assumed: (name, value) => `“${name}” 按 ${count(value)} 计算；可在“调整”的“内存”中设定。`,
    fellBack: (node, operator, where) => `${node}（${operator}）在 ${where} 上运行，没有用 GPU。`,
    candidateFailed: (id, why) => `放弃了一个方案（${id}）：${why}`,
    blocked: (what, name, size) => `受限于 ${name} 的${what}：${bytes(size)}。`,
    lessFree: (free, needed) => `运行结果时设备上只有 ${bytes(free)} 空闲；它需要 ${bytes(needed)}。`,
    mixed: (shares, measured, kept) =>
      `各权重相互权衡（${measured ? '实测改动对答案的影响' : '根据权重的数值'}）：${shares}。${
        kept.length > 0 ? `答案最依赖 ${kept.map((name) => `“${name}”`).join('、')}。` : ''
      }`,
    blockedWhat: { weights: '权重', activations: '激活值', cache: '缓存' },
  },

  ...outcomeZhCN(format),
  ...damageZhCN(format),
} satisfies typeof en;
