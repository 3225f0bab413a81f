import type { damageEn } from './damage.en.js';
import type { Formats } from './format.js';

export const damageZhCN = ({ count, decimal, percent }: Formats): ReturnType<typeof damageEn> => ({
  damageReport: {
    title: '代价',
    verdict: (band) => `损失：${band}`,
    advice: {
      none: '可以像原模型一样使用。',
      negligible: '可以像原模型一样使用：变化的答案原本就难分高下。',
      small: '适合大多数用途。若每个答案都很重要，请先用自己的实例试一试。',
      moderate: '依赖它之前，请先用自己的实例试一试。加大预算、给最差的层更宽的格式或训练，都能挽回答案。',
      large: '请加大预算、选用更宽的格式、少剪枝，或训练它。现在它的答案比较粗糙。',
      severe: '不要依赖它：请加大预算、选用更宽的格式、少剪枝，或训练它。',
      unknown: '添加样本即可得知代价。',
    },
    onSamples: (samples) => `在 ${count(samples)} 个未参与拟合的样本上比较。`,
    onRandom: '在随机输入上比较，不能说明真实输入的情况。',
    columns: { measure: '指标', value: '数值', damage: '损失' },
    sameAnswer: '答案相同（top 1）',
    kl: 'KL 散度',
    nats: (value) => `${value > 0 && value < 0.0001 ? '<\u00a00.0001' : decimal(value, 4)}\u00a0nats`,
    sqnr: '输出与误差之比（SQNR）',
    db: (value) => (value >= 200 ? '无误差' : `${decimal(value, 1)}\u00a0dB`),
    cosine: '余弦相似度',
    cosineValue: (value) => (value < 1 && value > 0.999995 ? '>\u00a00.99999' : decimal(value, 5)),
    perplexity: '困惑度',
    perplexityChange: (before, after) => `${decimal(before, 2)} → ${decimal(after, 2)}`,
    perplexityNote: (change, tokens) =>
      `${change > 0 ? '+' : change < 0 ? '−' : ''}${percent(Math.abs(change), 1)}，共 ${count(tokens)} 个词元`,
    right: '正确答案',
    rightChange: (before, after) => `${percent(before, 1)} → ${percent(after, 1)}`,
    rightNote: (samples) => `共 ${count(samples)} 个带标签的样本`,
    outputs: '逐个输出',
    output: '输出',
    layers: '逐层',
    layersHelp: '每一层的输出与原模型相差多少，此前各层也都已改变。突然下降的一层就是造成损失的层：给它更宽的格式。',
    layersLabel: (layers, worst, db) =>
      `${count(layers)} 层的输出与误差之比；最低的是 ${worst}，${decimal(db, 1)} dB。`,
    layerColumns: { layer: '层', operator: '算子', format: '格式', sqnr: 'SQNR', cosine: '余弦', damage: '损失' },
    worst: (layer) => `与原模型相差最大：${layer}`,
    bands: '这些词的含义',
    bandColumns: { damage: '损失', kl: 'KL 散度', changed: '答案变化', sqnr: 'SQNR' },
    bandsHelp: '以前两项中较差的为准；输出不是类别列表时看第三项。',
    below: (limit) => `低于 ${limit}`,
    from: (limit) => `${limit} 起`,
    beyond: '更差',
  },
});
