import type { Formats } from './format.js';
import type { trainingEn } from './training.en.js';

export const trainingZhCN = ({
  bytes,
  bytesPair,
  compact,
  count,
  decimal,
  loss,
  percent,
  date,
}: Formats): ReturnType<typeof trainingEn> => ({
  losses: {
    'cross-entropy': '正确的类别',
    mse: '接近目标的数值',
    distill: '另一个模型的答案',
  },
  lossHelp: {
    'cross-entropy': '每个样本用一个整数表示类别（交叉熵）。文本则学习下一个词元。',
    mse: '目标与输出形状相同，或者来自另一个模型（均方误差）。',
    distill: '不需要标签：由教师模型示范，例如剪枝之前的模型（蒸馏）。',
  },
  parts: {
    all: '所有权重',
    'biases-and-norms': '仅偏置和归一化',
    adapters: '低秩适配器，最后并入权重',
  },
  optimizers: { adamw: 'AdamW', sgd: '带动量的 SGD' },
  schedules: { cosine: '按半余弦下降', linear: '直线下降', constant: '保持不变' },
  ended: {
    finished: () => '训练已完成。',
    'no longer better': (heldOut) => `提前结束：${heldOut > 0 ? '留出样本的' : ''}损失不再下降。`,
    stopped: () => '已停止，保留了目前最好的权重。',
    diverged: () => '已结束：损失不再是数值。保留了此前最好的权重。',
  },

  offer: {
    title: '用你自己的数据训练',
    why: '微调模型，或找回剪枝和降低位数带来的损失；每批大小都放得进内存。',
    button: '训练…',
  },
  title: (name) => `训练 ${name}`,
  back: '回到方案',
  intro: 'Snug 训练的是副本，原文件只读取，不会写入。',

  files: {
    title: '数据',
    roles: { data: '样本', labels: '标签', teacher: '教师模型' },
    help: {
      data: '.npy、.npz、文本或图片；第一个轴为样本数',
      labels: '.npy，每个样本一个答案',
      teacher: '输入和输出相同的 .onnx 模型',
    },
    none: '拖到这里，或者',
    choose: '选择文件',
    replace: '更换',
    chooseFor: (role) => `选择文件：${role}`,
    replaceFor: (role) => `更换：${role}`,
    reading: '正在读取…',
    samples: (name, n) => `${name}，${count(n)} 个样本`,
    labels: (name, rows, shape) =>
      shape.length === 0
        ? `${name}，${count(rows)} 个标签`
        : `${name}，${count(rows)} 行，每行 ${shape.map(count).join(' × ')}`,
    nextToken: '不需要：下一个词元就是答案。',
  },

  what: {
    title: '学什么',
    loss: '要学会',
    trainable: '改变什么',
    rank: '适配器的秩',
    epochs: '轮数',
    epochsHelp: '遍历样本的次数',
    batch: '每次更新的样本数',
    more: '更多设置',
    optimizer: '优化器',
    rate: '学习率',
    rateHelp: '最高值，在开始时',
    schedule: '随时间',
    validation: '留出用于评判',
    patience: '提前停止',
    patienceNever: '从不',
    patienceEpochs: (n) => `${count(n)} 轮没有变好后`,
  },

  memory: {
    title: '内存',
    row: '训练',
    fits: (need, budget) => {
      const [n, b] = bytesPair(need, budget);
      return `放得下：训练约需 ${n}，可用 ${b}。`;
    },
    doesNotFit: (need, budget) => {
      const [n, b] = bytesPair(need, budget);
      return `放不下：即使一次一个样本也需要 ${n}，可用 ${b}。`;
    },
    wayOut: '请提高预算，或只训练一部分：仅偏置和归一化，或适配器。',
    raise: (size) => `使用 ${bytes(size)}`,
    less: '仅训练偏置和归一化',
    micro: (batch, micro) =>
      micro >= batch
        ? `每次更新的 ${count(batch)} 个样本一起运行。`
        : `每次更新累加 ${count(Math.ceil(batch / micro))} 次运行，每次 ${count(micro)} 个样本，因此 ${count(batch)} 个样本也放得进预算。`,
    what: (parameters, weights) => `${count(weights)} 个权重中的 ${compact(parameters)} 个数值会改变。`,
    steps: (steps, training, held) =>
      `${count(steps)} 次更新：用 ${count(training)} 个样本学习，留出 ${count(held)} 个。`,
    noHeldOut: (steps, training) =>
      `在 ${count(training)} 个样本上更新 ${count(steps)} 次。没有留出样本：对新样本的效果无从得知。`,
    waiting: '添加样本后即可看到训练需要多少内存。',
    working: '正在计算…',
    missing: {
      data: '添加样本后即可开始。',
      labels: '添加标签后即可开始。',
      teacher: '添加教师模型后即可开始。',
      either: '添加目标或教师模型后即可开始。',
    },
  },
  start: '开始训练',

  interrupted: {
    title: (name) => `${name} 没有训练完`,
    facts: (step, total, when) => `已进行到第 ${count(step)} 次更新，共 ${count(total)} 次，${when}。`,
    best: (best) => `目前最好：${best}。`,
    files: (names) => `会继续使用${names.join('和')}以及原来的设置。`,
    resume: '继续训练',
    discard: '放弃',
    date,
  },

  running: {
    title: (name) => `正在训练 ${name}`,
    preparing: '先评判原来的模型',
    other: '已有一个训练在运行，就是这一个。',
    epoch: (epoch, epochs) => `第 ${count(epoch)} 轮，共 ${count(epochs)} 轮`,
    step: (step, total) => `第 ${count(step)} 次更新，共 ${count(total)} 次`,
    best: '目前最好',
    stop: '停止并保留最好的',
    stopping: '正在写入最好的权重…',
    quality: (value, accuracy) =>
      accuracy === null ? `损失 ${loss(value)}` : `损失 ${loss(value)}，正确率 ${percent(accuracy, 1)}`,
  },

  chart: {
    title: '损失',
    trainingLine: '训练',
    heldOut: { line: '留出样本', column: '留出损失', inSentence: '留出样本' },
    all: { line: '全部样本', column: '全部样本的损失', inSentence: '全部样本' },
    bestMark: '最好',
    axis: '更新次数',
    label: (training, judged, step, by) =>
      step === 0
        ? '损失随更新次数的变化；尚未更新。'
        : `${count(step)} 次更新中的损失：${training === null ? '' : `训练 ${loss(training)}`}${
            judged === null ? '' : `，${by} ${loss(judged)}`
          }。`,
    columns: { step: '更新', training: '训练损失', accuracy: '正确率' },
    empty: '开始更新后会出现第一批点。',
  },

  result: {
    better: (share) => `变好了：损失降低 ${percent(share)}。`,
    notBetter: '没有变好：文件保存的是开始时的权重。可以试试更低的学习率。',
    where: '训练后的模型是',
    column: { measure: '指标', before: '之前', after: '之后', note: '说明' },
    loss: '损失',
    accuracy: '正确率',
    heldOut: (n) => `在 ${count(n)} 个留出样本上`,
    onAll: '在学习用的样本上',
    bestAt: (step, total) => `第 ${count(step)} 次更新后最好，共 ${count(total)} 次`,
    points: (change) =>
      Math.abs(change) < 0.0005
        ? '没有变化'
        : `${change > 0 ? '+' : '−'}${decimal(Math.abs(change) * 100, 1)} 个百分点`,
    memory: '进程最多占用',
    predicted: (size) => `其中训练本身预测需要 ${bytes(size)}；其余是进程的工作空间`,
    use: '用这个模型规划',
    again: '再训练',
    report: '存为 JSON',
  },
});
