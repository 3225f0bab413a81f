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
import { trainingZhCN } from './training.zh-CN.js';

const format = createFormats('zh-CN');
const { bytes, bytesPair, count, percent } = format;

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

  plan: {
    parameters: (n) => `${format.compact(n)} 个参数`,
    kind: fromEngineZhCN.kind,
    verdictFits: (need, budget, batch) => {
      const [n, b] = bytesPair(need, budget);
      return `原样就放得下：${atBatch(batch)}需要 ${n}，可用 ${b}。`;
    },
    verdictTight: (need, budget, batch) => {
      const [n, b] = bytesPair(need, budget);
      return `勉强放得下：${atBatch(batch)}需要 ${n}，可用 ${b}。`;
    },
    verdictNot: (need, budget, batch) => {
      const [n, b] = bytesPair(need, budget);
      return `放不下：${atBatch(batch)}需要 ${n}，可用 ${b}。`;
    },
    verdictUnknown: (reason) => `无法判断需要多少内存：${reason}`,
    nothingToDo: '什么都不用做。',
    nothingToDoMore: (spare) => `运行时还剩 ${bytes(spare)} 空闲。`,
    wouldFit: 'Snug 会这样让它放得下',
    wouldFitDo: 'Snug 会这样做',
    couldStill: 'Snug 还可以让它更小',
    spare: (need, budget) => {
      const [n, b] = bytesPair(need, budget);
      return `${n} / ${b}，余 ${bytes(Math.max(0, budget - need))}`;
    },
    sentence: (parts) => `${parts.join('，')}。`,
    sentenceUnchanged: '权重不变',
    sentenceLevers: '按每一步所需申请内存',
    sentenceDtype: (name, share) => (share > 0.995 ? `全部用 ${name}` : `${percent(share)} 用 ${name}`),
    sentenceRest: (name) => `其余用 ${name}`,
    sentenceMixed: (share, name) => `混合格式，${percent(share)} 为 ${name}`,
    sentencePruned: (ratio) => `剪去 ${percent(ratio)}`,
    measuredWidths: '按测得的损失分配宽度',
    recovered: '剪枝后用样本训练',
    tuned: '量化后用样本训练',
    sentenceNotPruned: '不剪枝',
    sentenceBatch: (batch) => `批大小 ${count(batch)}`,
    sentenceProvider: (name) => `运行于 ${name}`,
    factMemory: '内存峰值',
    factFile: '文件',
    factDamage: '预期损失',
    factBatch: '批大小',
    factFormat: '格式',
    damageDb: (band, db) => (db === null ? band : `${band}（${format.decimal(db, 0)}\u00a0dB）`),
    ofBudget: (need, budget) => bytesPair(need, budget).join(' / '),
    toSpare: (size) => `还余 ${bytes(size)}`,
    tooMuch: (size) => `超出 ${bytes(size)}`,
    db: (db) => `${format.decimal(db, 0)} dB`,
    damageMeasured: '检查时会实测',
    damageHelp: '答案预计会偏移多少：原输出强度与误差之比，单位分贝，越高越好；检查时会实测。',
    make: '开始压缩',
    makeAnyway: '仍然压缩',
    halfBudget: (size) => `试试 ${bytes(size)} 的预算`,
    adjust: '调整',
    adjustClose: '关闭调整',
    how: '这是怎么算出来的',
    solving: '正在计算…',
    solvedIn: (ms) => `用时 ${format.ms(ms)}。`,
    nothingFits: (budget) => `Snug 没有办法放进 ${bytes(budget)}。`,
    smallest: (size) => `最小能到 ${bytes(size)}。`,
    raise: (size) => `改用 ${bytes(size)}`,
    unpin: '恢复 Snug 的选择',
    unpinWhy: '你自己的设置限制了方案；去掉它们，Snug 还有别的办法。',
    unpinRest: '其余交给 Snug',
    pinned: '由你设定',
    data: {
      none: '还没有你的样本',
      why: '有几百个与真实输入相近的样本，Snug 就能修复剪枝造成的损失、校准 8 位范围，并测出有多少答案发生变化。没有样本时只能用随机输入检查。',
      attach: '添加样本',
      replace: '更换',
      attached: (name, samples) => `${count(samples)} 个样本，来自 ${name}`,
      addLabels: '添加标签',
      labelsWhy: '有了每个样本的正确类别（.npy），Snug 会统计压缩前后的正确答案。',
      labelled: (labels) => `将用 ${labels} 统计正确答案。`,
      attaching: '正在读取样本…',
    },
    worked: {
      needs: (size, where) => `模型原样在 ${where} 上的峰值为 ${bytes(size)}。`,
      phases: (load, cold, warm) =>
        `加载 ${bytes(load)}，首次运行 ${bytes(cold)}，之后每次 ${bytes(warm)}；以最大者为准。`,
      budget: (free, kept, budget) => `空闲 ${bytes(free)}，预留 ${bytes(kept)}，可用 ${bytes(budget)}。`,
      budgetOwn: (budget) => `你把预算设为 ${bytes(budget)}。`,
      units: '1 GB 等于 1,000,000,000 字节。',
      unknown: (list) => `以下大小无法算出：${list.join('、')}。`,
    },
  },

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

function atBatch(batch: number | null): string {
  return batch === null ? '' : `批大小 ${count(batch)} 时`;
}
