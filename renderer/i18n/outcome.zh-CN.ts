import type { Formats } from './format.js';
import type { outcomeEn } from './outcome.en.js';

export const outcomeZhCN = ({
  bytes,
  bytesPair,
  clock,
  count,
  decimal,
  percent,
}: Formats): ReturnType<typeof outcomeEn> => ({
  working: {
    title: (name) => `正在压缩 ${name}`,
    progress: '进度',
    elapsed: '已用',
    left: '剩余',
    leftAbout: (seconds) =>
      seconds < 90
        ? `约 ${count(Math.max(5, Math.round(seconds / 5) * 5))} 秒`
        : `约 ${count(Math.round(seconds / 60))} 分钟`,
    stop: '停止',
    stopping: '正在停止…',
    originalSafe: '原文件只读取，从不写入。',
    weights: (done, total) => `权重 ${count(done)} / ${count(total)}`,
    nodes: (done, total) => `节点 ${count(done)} / ${count(total)}`,
    samples: (done, total) => `样本 ${count(done)} / ${count(total)}`,
    runs: (done, total) => `运行 ${count(done)} / ${count(total)}`,
    bytes: (done, total) => `${bytes(done)} / ${bytes(total)}`,
    percent: (share) => `已完成 ${percent(share)}`,
    item: (item) => (item === 'original' ? '原模型' : item),
    finished: '完成',
    stoppedNothing: '已停止，没有改动任何东西。',
    stoppedKept: '已停止，保留了目前最好的结果。',
    failedKept: '没有做完，但保留了目前最好的结果。',
    pending: '待办',
    skipped: '不需要',
    now: '进行中',
    done: '已完成',
  },

  result: {
    fits: (size, budget) => {
      const [s, b] = bytesPair(size, budget);
      return `放得下：实测 ${s}，允许 ${b}。`;
    },
    fitsPredicted: (size, budget) => {
      const [s, b] = bytesPair(size, budget);
      return `预测放得下：${s} / ${b}，没有实测。`;
    },
    doesNotFit: (size, budget) => {
      const [s, b] = bytesPair(size, budget);
      return `放不下：实测 ${s}，允许 ${b}。`;
    },
    noOutput: '没有写入文件。',
    column: { measure: '指标', before: '之前', after: '之后', predicted: '预测', note: '说明' },
    memory: '内存峰值',
    file: '文件',
    parameters: '参数',
    speed: '每次运行用时',
    answers: '答案',
    batch: (batch) => `批大小 ${count(batch)}`,
    within: (share) => `比预测${share > 0 ? '高' : '低'} ${percent(Math.abs(share))}`,
    exact: '与预测一致',
    sameSize: '大小不变',
    smaller: (share) => `小了 ${percent(share)}`,
    larger: (share) => `大了 ${percent(share)}`,
    faster: (ratio) => `快 ${decimal(ratio, 1)} 倍`,
    slower: (ratio) => `慢 ${decimal(1 / ratio, 1)} 倍`,
    sameSpeed: '速度相近',
    same: (share) => `${percent(share, share === 1 ? 0 : 1)} 相同`,
    close: (db) => `${decimal(db, 0)} dB`,
    onSamples: (n) => `用你的 ${count(n)} 个样本比较`,
    onRandom: '用随机输入比较，不代表准确率',
    notCompared: '未比较',
    estimated: '估算',
    show: '在文件夹中显示',
    download: '下载模型',
    reportHtml: '保存报告',
    reportJson: '把方案存为 JSON',
    again: '重新开始',
    adjust: '修改方案',
    layers: '逐层看改了什么',
    live: '运行时的内存',
    tried: '试过的方案',
    triedOver: '超出预算',
    triedFits: (band) => (band === null ? '放得下' : `放得下，损失${band}`),
    triedColumns: { plan: '方案', predicted: '预测', measured: '实测', outcome: '结果' },
    notes: '值得知道',
    took: (seconds) => `用时 ${seconds < 60 ? `${decimal(seconds, 1)} 秒` : clock(seconds * 1000)}。`,
    widths: '变窄的层',
    fallbacks: (n) => `${count(n)} 个节点在 CPU 上运行`,
  },
});
