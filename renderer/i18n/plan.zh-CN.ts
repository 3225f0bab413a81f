import type { Formats } from './format.js';
import { fromEngineZhCN } from './from-engine.zh-CN.js';
import type { planEn } from './plan.en.js';

export const planZhCN = ({
  bytes,
  bytesPair,
  compact,
  count,
  decimal,
  ms: duration,
  percent,
}: Formats): ReturnType<typeof planEn> => {
  const atBatch = (batch: number | null): string => (batch === null ? '' : `批大小 ${count(batch)} 时`);
  return {
    plan: {
      parameters: (n) => `${compact(n)} 个参数`,
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
      damageDb: (band, db) => (db === null ? band : `${band}（${decimal(db, 0)}\u00a0dB）`),
      ofBudget: (need, budget) => bytesPair(need, budget).join(' / '),
      toSpare: (size) => `还余 ${bytes(size)}`,
      tooMuch: (size) => `超出 ${bytes(size)}`,
      db: (db) => `${decimal(db, 0)} dB`,
      damageMeasured: '检查时会实测',
      damageHelp: '答案预计会偏移多少：原输出强度与误差之比，单位分贝，越高越好；检查时会实测。',
      make: '开始压缩',
      makeAnyway: '仍然压缩',
      halfBudget: (size) => `试试 ${bytes(size)} 的预算`,
      adjust: '调整',
      adjustClose: '关闭调整',
      how: '这是怎么算出来的',
      solving: '正在计算…',
      solvedIn: (ms) => `用时 ${duration(ms)}。`,
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
        replaceLabels: '更换标签',
        labelsWhy: '有了每个样本的正确类别（.npy），Snug 会统计压缩前后的正确答案。',
        labelled: (labels) => `将用 ${labels} 统计正确答案。`,
        notCountable: '无法统计正确答案：这个模型没有为每个样本逐类给出数值的输出。',
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
  };
};
