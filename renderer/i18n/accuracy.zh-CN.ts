import type { Provider } from '../../src/contract/types.js';
import type { accuracyEn } from './accuracy.en.js';
import type { Formats } from './format.js';

export const accuracyZhCN = ({ bytes, bytesPair, clock, count, decimal }: Formats): ReturnType<typeof accuracyEn> => {
  const off = (percent: number): string => `${decimal(percent, percent >= 0.05 && percent < 9.95 ? 1 : 0)}%`;
  const rules: Record<Provider, string> = {
    cpu: '逐步重演 ONNX Runtime 自己的规划：哪些缓冲区共用一处、内存池保留多少、哪些权重会重新打包。',
    cuda: '在 CUDA 上，内存按逐渐变大的块向驱动申请并一直保留；权重和激活值按这些块计算。',
    dml: 'DirectML 按 2 的幂保留已释放的缓冲区；激活值按这些大小计算。',
    webgpu: 'WebGPU 按几种固定大小保留已释放的缓冲区；激活值按这些大小计算，权重按实际大小。',
    coreml: 'Core ML 不公开它怎样规划内存；权重和激活值按自身大小计算。',
  };
  return {
    title: 'Snug 在这里有多准',
    summary: (runs, median, worst) =>
      runs === 1
        ? `在这台电脑上：1 次运行，误差 ${off(worst)}。`
        : `在这台电脑上：${count(runs)} 次运行，误差中位数 ${off(median)}，最大 ${off(worst)}。`,
    none: '这里还没有运行过模型。每次运行都会记下预测值和实测值。',
    list: '显示各次运行',
    columns: {
      model: '模型',
      where: '运行于',
      batch: '批大小',
      format: '格式',
      predicted: '预测',
      measured: '实测',
      off: '误差',
      when: '时间',
    },
    offBy: (percent) => (Math.abs(percent) < 0.05 ? off(0) : percent > 0 ? `+${off(percent)}` : `−${off(-percent)}`),
    private: '只保存在这台电脑上：只有名称和数字，没有文件，也没有文件夹。',
    clear: '清除记录',
    clearSure: (runs) => `忘掉 ${count(runs)} 次运行？`,
    clearYes: '清除',
    clearNo: '保留',
    cleared: '记录已清除。',

    calibrated: (where, date, percent) => `已于${date}为 ${where} 校准：估算误差在 ±${off(percent)} 以内`,
    notCalibrated: (where) => `尚未为 ${where} 校准；第一次规划之后 Snug 会自动进行。`,
    calibrating: (where) => `正在为 ${where} 校准：运行三个小型测试模型…`,
    calibrationDone: (percent) => `校准完成，这里的估算误差在 ±${off(percent)} 以内。`,
    calibrationFound: '测试模型的结果',
    calibrationFor: (device, driver, runtime) =>
      `适用于 ${device}${driver === null ? '' : `，驱动 ${driver}`}，ONNX Runtime ${runtime}。`,
    probe: '测试模型',
    probes: { 'dense layers': '全连接层', 'feature maps': '特征图', attention: '注意力' },
    probeNone: '只有一步的会话',
    calibrationFailed: (reason) => `没能在这个设备上校准：${reason}。`,
    calibrationStopped: '校准已停止，估算仍用原来的范围。',
    calibrate: '立即校准',
    calibrateAgain: '重新校准',
    stop: '停止',

    interval: {
      rule: (low, high) => `估算可靠的范围是 ${bytes(low)} 至 ${bytes(high)}：这是通用规则，尚未在这台电脑上检验。`,
      calibration: (low, high, percent, runs) =>
        `估算可靠的范围是 ${bytes(low)} 至 ${bytes(high)}（${off(percent)} 以内），由这台电脑上的 ${count(runs)} 个测试模型得出。`,
      record: (low, high, percent, runs) =>
        `估算可靠的范围是 ${bytes(low)} 至 ${bytes(high)}（${off(percent)} 以内），与这台电脑上 ${count(runs)} 次运行的误差一样宽。`,
    },

    worked: {
      title: '这是怎么算出来的',
      parts: '部分',
      load: '加载',
      cold: '首次运行',
      warm: '之后每次',
      total: '合计',
      largestCounts: (phase) => `以三者中最大的为准：${phase}。`,
      assumptions: '依据',
      batch: (batch) => `批大小 ${count(batch)}。`,
      dims: (list) => `采用的大小：${list.map((each) => `${each.name} = ${count(each.value)}`).join('，')}。`,
      rules,
      unknown: '无法算出的',
      unknownMore: (n) => `以及另外 ${count(n)} 个。`,
      limits: '设备的限制',
    },

    live: {
      title: (node) => `${node} 时在内存中的内容`,
      atPeak: '最高点',
      step: '运行到的步骤',
      stepText: (index, total, node, size) => `第 ${count(index)} 步，共 ${count(total)} 步：${node}，${bytes(size)}`,
      weights: '权重',
      others: '较小的值和取整',
    },

    gauge: {
      title: '运行时的内存',
      nothing: '还没有模型在运行。',
      between: '目前没有模型在运行。',
      highest: (size) => `目前最高 ${bytes(size)}`,
      device: (used, total) => `整个设备 ${bytesPair(used, total).join(' / ')}`,
      label: (used, highest, budget) =>
        `正在运行的模型占用的内存：现在 ${bytes(used)}，目前最高 ${bytes(highest)}，预算 ${bytes(budget)}。`,
      help: '运行模型的进程比刚启动时多占的内存，其中包括它自己的工作空间和为下次运行保留的部分，往往超过小模型本身；是否放得下以实测峰值为准。',
    },

    trace: {
      title: '运行期间的内存',
      label: (highest, atMs, samples, budget) =>
        `任务运行期间的内存，共 ${count(samples)} 个采样：最高 ${bytes(highest)}，在开始后 ${clock(atMs)}；预算 ${bytes(budget)}。`,
      axis: '开始后的时间',
      predicted: '逐步预测',
      columns: { time: '时间', used: '模型', device: '整个设备' },
    },
  };
};
