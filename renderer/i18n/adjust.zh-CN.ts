import type { adjustEn } from './adjust.en.js';
import type { Formats } from './format.js';

type AdjustWords = ReturnType<typeof adjustEn>;

export const adjustZhCN = ({ bytes, bytesExact, count, percent, rate }: Formats): AdjustWords => ({
  title: '调整',
  tabs: { memory: '内存', prune: '剪枝', numbers: '数值', batch: '批大小', tradeoff: '取舍' },
  pin: '由你设定',
  unpin: '恢复 Snug 的选择',
  unpinOne: (what) => `让 Snug 选择${what}`,
  unpinAll: '恢复 Snug 的选择',
  snugChose: 'Snug 的选择',
  more: (what) => `${what}：增加`,
  less: (what) => `${what}：减少`,
  nodeAxis: '按运行顺序的层',
  memoryAxis: '内存',
  budgetLine: '预算',
  peakAxis: '内存峰值',
  noData: '这个模型没有可画的内容。',

  memory: {
    intro: '哪些东西必须同时在内存里，以及在什么时候。',
    provider: '运行于',
    dims: '输入的大小',
    dim: (name) => `“${name}” 的大小`,
    chart: '一次运行中的内存',
    chartLabel: (peak, node, nodes) => `一次运行共 ${count(nodes)} 步，内存最高点在 ${node}，为 ${bytes(peak)}。`,
    columns: { node: '步骤', operator: '算子', live: '占用' },
    top: '最大的张量',
    topColumns: { name: '名称', kind: '类别', size: '大小' },
    kinds: { weight: '权重', activation: '激活值', cache: '缓存' },
  },

  prune: {
    intro: '移除整个神经元和通道，文件和内存都会真正变小；只置零则什么也省不下。',
    ratio: '剪枝比例',
    method: '剪掉哪些',
    methodHelp: {
      random: '随意选取，作为对照。',
      magnitude: '先剪权重最小的。',
      activation: '先剪对下一层影响最小的，并保留其均值。需要样本。',
      repair: '重新拟合下一层，弥补剪掉的部分：用你的样本，没有样本时用虚构的输入。',
    },
    atRatio: (ratio) => `剪枝 ${percent(ratio)} 时`,
    peak: '内存峰值',
    file: '文件',
    damage: '损失',
    saves: (size) => `剪枝省下 ${bytes(size)}`,
    savesNothing: '剪枝没有节省',
    measured: '实测',
    expected: '预期',
    agreement: (share) => `${percent(share)} 的答案相同`,
    memoryChart: '内存峰值与剪枝比例',
    memoryLabel: (from, to, ratio) =>
      `内存峰值随剪枝比例变化：不剪枝 ${bytes(from)}，剪 ${percent(ratio)} 时 ${bytes(to)}。`,
    damageChart: '损失与剪枝比例',
    damageLabel: (measured, points) =>
      `答案的${measured ? '实测' : '预期'}误差随剪枝比例变化：${points.map((p) => `${percent(p.ratio)} 时 ${percent(p.error)}`).join('，')}。`,
    measuredLine: '在你的样本上实测',
    expectedLine: '由权重推算的预期',
    tooFar: '这里损失增长很快',
    errorAxis: '答案的误差',
    ratioAxis: '剪枝比例',
    columns: {
      ratio: '剪枝',
      memory: '内存峰值',
      saved: '剪枝省下',
      file: '文件',
      measured: '实测损失',
      expected: '预期损失',
    },
    notMeasured: '未测量',
    furthest: (ratio, measured) =>
      `到此为止：${percent(ratio)}。再往后，${measured ? '实测' : '预期'}损失就不再是轻微。`,
    furthestNone: (measured) => `所有比例下，${measured ? '实测' : '预期'}损失都不超过轻微。`,
    past: (furthest) => `超过 ${percent(furthest)} 后损失增长很快。请少剪一些，或先检查答案再使用。`,
    basis: {
      noSamples: '仅由权重推算的预期。添加样本后，Snug 会实际测量。',
      otherMethod: '仅由权重推算的预期：只测量带修复的剪枝。',
      measuring: (done, total) =>
        total === 0
          ? '正在你的样本上测量……'
          : `正在你的样本上测量：${count(total)} 个比例中的第 ${count(Math.min(done + 1, total))} 个。`,
      done: (samples, fitted) =>
        fitted
          ? `在修复所拟合的同样 ${count(samples)} 个样本上实测，样本太少，无法留出：其他输入的损失可能更大。每组按相同比例剪枝。`
          : `在 ${count(samples)} 个修复未用过的样本上实测，每组按相同比例剪枝。`,
      stopped: (done, total) =>
        done === 0 ? '已停止，没有测出结果。' : `测了 ${count(total)} 个比例中的 ${count(done)} 个后停止。`,
      failed: '用这个模型和这些样本无法测量，显示的是由权重推算的预期。',
      nothing: '没有足够宽、可以按比例剪枝的组。',
    },
    stop: '停止测量',
    again: '测量',
    widths: '每组的宽度',
    widthsHelp: '共用一个宽度的层一起变窄。拖动横条或用方向键自行设定。',
    widthOf: (unit, name) => `${name} 的${unit}`,
    widthText: (after, before) => `${count(before)} 中的 ${count(after)}`,
    width: (before, after) => (before === after ? count(before) : `${count(before)} → ${count(after)}`),
    readBy: '用于',
    andMore: (n) => `等另外 ${count(n)} 个`,
    others: (n) => `另有 ${count(n)} 个偏置或归一化参数一起变窄`,
    onlyWhenSet: (n) => `另有 ${count(n)} 组，只在你设定时才变窄`,
    showAll: (n) => `显示全部 ${count(n)} 组`,
    units: {
      channels: '通道数',
      features: '隐藏宽度',
      heads: '注意力头数',
      'kv-groups': '键值头组数',
      'query-heads': '每组查询头数',
      'query-key-width': '查询键宽度',
      'value-width': '值宽度',
      'head-width': '头宽度',
      groups: '通道组数',
      recurrent: '隐藏单元数',
      stream: '主干宽度',
    },
    noWidths: '这个模型没有任何部分能在不改变输入输出的情况下剪枝。',
  },

  numbers: {
    intro: '每个权重用更少的位。真正省下多少，取决于由什么来运行。',
    choose: '数值格式',
    auto: 'Snug 的选择',
    columns: { format: '格式', memory: '内存峰值', file: '文件', damage: '损失', speed: '速度' },
    atPlan: (batch, ratio) =>
      `每种格式都用于全部权重${batch === null ? '' : `，批大小 ${count(batch)}`}${ratio > 0 ? `，剪去 ${percent(ratio)}` : ''}，与方案一致。损失：输出与误差之比（dB），越高越好；低于 20\u00a0dB 就能看出来。`,
    speeds: { faster: '更快', same: '相近', slower: '更慢' },
    speedUnknown: '未知',
    speedHelp: (known, provider) =>
      known
        ? '速度：与 32 位相比的大矩阵乘积在类似批大小下的参考值。压缩后的检查会实测你的模型。'
        : `速度：这个模型的层在 ${provider} 上的速度未知。压缩后的检查会实测。`,
    mix: {
      title: '混合格式',
      intro: (measured) =>
        `每个权重使用适合自己的格式：越靠左越小，越靠上答案越好；权重的轻重${
          measured ? '由实测其改动对答案的影响得出' : '由权重的数值得出'
        }。点一个点来选择。`,
      axis: '文件',
      tooLarge: (budget) => `× 超出 ${bytes(budget)} 的预算。`,
      label: (n, from, to, chosen) =>
        `${count(n)} 种混合格式，从 ${bytes(from)} 到 ${bytes(to)}；${
          chosen === null ? '没有选中的' : `选中的为 ${bytes(chosen.size)}：${chosen.shares}`
        }。`,
      chosen: (size, shares) => `已选：${bytes(size)}，${shares}。`,
      columns: { file: '文件', memory: '内存峰值', damage: '预期损失', formats: '格式', use: '采用' },
    },
    damageMap: '每个权重带来的误差',
    noise: (share) => `带来${share < 0.0001 ? '不到' : ''} ${percent(Math.max(share, 0.0001), 2)} 误差`,
    notHere: '这里不可用',
    map: '按格式和大小看权重',
    mapHelp: '宽度：之前的字节数；填充高度：剩下的字节数。指向一个权重可看其数值。',
    mapLabel: (before, after, formats) =>
      `权重从 ${bytes(before)} 变为 ${bytes(after)}：${formats.map((f) => `${f.name}占 ${percent(f.share)}`).join('，')}。`,
    layer: (name, format, before, after) => `${name}：${format}，${bytesExact(before)} → ${bytesExact(after)}`,
    layerColumns: { weight: '权重', shape: '形状', format: '格式', before: '之前', after: '之后', noise: '带来的误差' },
    perLayer: '每个权重的格式',
    formatOf: (name) => `${name} 的格式`,
    showAll: (n) => `显示全部 ${count(n)} 个`,
  },

  batch: {
    intro: '一次同时运行多少个输入。激活值随之增长，权重不会。',
    size: '批大小',
    none: '这个模型没有批维度，一次只运行一个输入。',
    chart: '内存峰值与批大小',
    chartLabel: (largest, budget) =>
      largest === null
        ? `没有批大小能放进 ${bytes(budget)}。`
        : `内存峰值随批大小变化：${bytes(budget)} 最多放得下批大小 ${count(largest)}。`,
    axis: '批大小',
    columns: {
      batch: '批大小',
      memory: '内存峰值',
      fits: '是否放得下',
      speed: '每秒样本数',
      latency: '每次运行用时',
      measured: '实测峰值',
      estimated: '估算峰值',
      use: '采用',
    },
    fits: '放得下',
    over: '太大',
    largest: (batch) => `放得下的最大批：${count(batch)}`,
    speedChart: '每秒样本数与批大小',
    speedLabel: (knee, last) =>
      knee === null
        ? `实测到批大小 ${count(last)} 的每秒样本数；没有一个放得进预算。`
        : `实测到批大小 ${count(last)} 的每秒样本数；拐点在批大小 ${count(knee.batch)}，每秒 ${rate(knee.samplesPerSecond)} 个。`,
    perSecond: (value) => `每秒 ${rate(value)} 个样本`,
    knee: '拐点',
    kneeIs: (knee) =>
      knee.batch === knee.fastest
        ? `拐点是批大小 ${count(knee.batch)}：放得下的更大批都不更快。`
        : `拐点是批大小 ${count(knee.batch)}：达到放得下的最快批大小 ${count(knee.fastest)} 的 ${percent(knee.share)}。`,
    notMeasured: (provider) => `各批大小有多快只能实测：在 ${provider} 上短暂运行几次原模型。`,
    measuring: (done, total) =>
      total === 0 ? '正在测量…' : `正在测量：第 ${count(done)} 个，最多 ${count(total)} 个批大小。`,
    how: (provider) =>
      `在 ${provider} 上用原模型实测；更小的数值格式会改变速度，但几乎不改变拐点。拐点是预算之内达到最高速度 90% 的最小批。`,
    failed: '这个模型在这里无法测量。',
    stopped: '还没测到任何结果就停止了。',
    noneFits: '原模型在任何批大小下都放不进现在空闲的内存，因此没有运行。',
    measure: '测量速度',
    stop: '停止测量',
    use: (batch) => `采用 ${count(batch)}`,
    chosen: '已选中',
  },

  tradeoff: {
    intro: '所有值得考虑的方案：越靠左内存越少，越靠上答案越好。选一个，预算就设为它所需的大小。',
    chart: '内存峰值与质量',
    chartLabel: (n, chosen, size) => `${count(n)} 个方案的内存峰值与质量；选中的是 ${chosen}，${bytes(size)}。`,
    chartLabelNone: (n) => `${count(n)} 个方案的内存峰值与质量；没有选中的。`,
    qualityAxis: '输出与误差之比，dB',
    key: (budget) => `虚线：预算 ${bytes(budget)}，其右侧的方案放不下。实心：所选方案。`,
    columns: { plan: '方案', memory: '内存峰值', damage: '预期损失', use: '采用' },
    onlyOne: '在这些设置下只有一个方案。让 Snug 选择格式或剪枝比例，就能比较其他方案。',
    chosen: '已选',
    use: (size) => `用 ${bytes(size)}`,
    unchanged: '不变',
  },
});
