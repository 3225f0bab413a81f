import type { ErrorCode } from '../../src/contract/errors.js';
import type { ErrorWords, errorsEn } from './errors.en.js';
import type { Formats } from './format.js';

type Params = Record<string, string | number>;

const text = (params: Params, key: string, fallback: string): string => String(params[key] ?? fallback);

/** What is wrong with labels that right answers are counted with; null where the error is of something else. */
function ofLabels({ labels, samples, label, classes, outputs }: Params): string | null {
  if (typeof labels === 'number' && typeof samples === 'number') {
    return `有 ${labels} 个标签，却有 ${samples} 个样本；每个样本需要一个标签。`;
  }
  if (typeof label === 'number' && typeof classes === 'number') {
    return `${label} 不在模型的 ${classes} 个类别之内，类别编号为 0 到 ${classes - 1}。`;
  }
  if (typeof outputs === 'string') return '模型没有给出各类别数值的输出，无法判断对错。';
  return null;
}

export const errorsZhCN = ({ bytes }: Formats): ReturnType<typeof errorsEn> => ({
  details: '详细信息',
  copy: '复制详细信息',
  copied: '已复制',
  unchanged: '原文件没有改动。',
  actions: {
    choose: '选择其他文件',
    retry: '重试',
    'raise-budget': '修改预算',
    adjust: '打开调整',
    data: '选择其他样本',
    copy: '复制详细信息',
    none: '',
  },
  of(code: ErrorCode, params: Params): ErrorWords {
    switch (code) {
      case 'E_USAGE':
        return { title: '无法这样做', meaning: '请求不完整或自相矛盾。' };
      case 'E_BAD_REQUEST':
        return { title: '请求被拒绝', meaning: '页面与引擎不一致，请刷新页面或重启 Snug。' };
      case 'E_NOT_FOUND':
        return { title: '文件不在了', meaning: `${text(params, 'path', '文件')}已被移动、改名或删除。` };
      case 'E_NOT_ONNX':
        return { title: '不是 ONNX 模型', meaning: '无论文件名是什么，里面都不是 ONNX 模型。请先把模型导出为 ONNX。' };
      case 'E_TRUNCATED':
        return { title: '文件不完整', meaning: '文件比它自己声明的要短，请重新下载或复制。' };
      case 'E_MALFORMED':
        return { title: '模型已损坏', meaning: '它违反了 ONNX 格式的规则，Snug 不会运行它。' };
      case 'E_TOO_COSTLY':
        return { title: '模型要求过多', meaning: '其中一步需要的内存超过这台电脑所能提供的，因此没有加载。' };
      case 'E_OPSET_TOO_NEW':
        return { title: '模型太新', meaning: '它使用的算子集比运行时新，请用较旧的 opset 重新导出。' };
      case 'E_UNKNOWN_OPERATOR':
        return {
          title: '未知算子',
          meaning: `运行时不认识${text(params, 'operator', '其中一个算子')}，模型无法在此运行。`,
        };
      case 'E_EXTERNAL_MISSING':
        return {
          title: '缺少权重文件',
          meaning: `模型的权重存放在${text(params, 'file', '另一个文件')}，它不存在或太短。请把两者或整个文件夹一起拖入。`,
        };
      case 'E_EXTERNAL_OUTSIDE':
        return { title: '权重在文件夹之外', meaning: '模型指向自己文件夹之外的数据或经由链接，Snug 不会跟随。' };
      case 'E_FILE_CHANGED':
        return { title: '文件中途被改动', meaning: 'Snug 读取模型时，另一个程序写入了它。' };
      case 'E_DISK_FULL':
        return {
          title: '磁盘已满',
          meaning:
            typeof params['needBytes'] === 'number'
              ? `新模型需要 ${bytes(params['needBytes'])} 磁盘空间。没有留下写了一半的文件。`
              : '磁盘放不下新模型。没有留下写了一半的文件。',
        };
      case 'E_NO_PERMISSION':
        return { title: '没有权限', meaning: `你不能读取或写入${text(params, 'path', '该文件夹')}。` };
      case 'E_EXISTS':
        return { title: '输出已经存在', meaning: `${text(params, 'path', '同名文件')}已存在，没有被覆盖。` };
      case 'E_SAME_FILE':
        return { title: '这会覆盖原文件', meaning: '输出与输入是同一个文件。' };
      case 'E_WRITE_FAILED':
        return { title: '写入失败', meaning: '文件系统拒绝了新模型。没有留下写了一半的文件。' };
      case 'E_DATA_FORMAT':
        return typeof params['label'] === 'string'
          ? { title: '无法读取标签', meaning: `${params['label']} 不是类别。标签应为整数，从 0 开始。` }
          : { title: '无法读取样本', meaning: 'Snug 可读取 .npy 和 .npz 数组；带分词器的模型可用文本。' };
      case 'E_DATA_SHAPE': {
        const labels = ofLabels(params);
        if (labels !== null) return { title: '标签不匹配', meaning: labels };
        return {
          title: '样本与模型不符',
          meaning:
            typeof params['rows'] === 'number' && typeof params['samples'] === 'number'
              ? `有 ${params['rows']} 个标签，却有 ${params['samples']} 个样本；每个样本需要一行，形状与损失所比较的一致。`
              : '样本的形状与模型输入不同；第一个轴应为样本数。',
        };
      }
      case 'E_DIMENSION':
        return {
          title: '缺少大小或大小不可行',
          meaning: `模型需要为${text(params, 'name', '某个维度')}给出可行的值。`,
        };
      case 'E_PROVIDER':
        return { title: '此处不能用该设备', meaning: `${text(params, 'provider', '该执行后端')}在这台电脑上不可用。` };
      case 'E_MODEL_REJECTED':
        return { title: '运行时拒绝了模型', meaning: 'ONNX Runtime 无法加载它，原因见详细信息。' };
      case 'E_RUN_FAILED':
        return { title: '模型运行失败', meaning: '模型可以加载，但其中一步失败，步骤见详细信息。' };
      case 'E_OUT_OF_MEMORY':
        return { title: '内存用完', meaning: '设备或电脑的内存少于运行所需。请关闭其他程序，或降低预算或批大小。' };
      case 'E_ENGINE_KILLED':
        return { title: '引擎被外部终止', meaning: '系统或其他程序结束了它，常见原因是内存用完。' };
      case 'E_ENGINE_CRASHED':
        return { title: '引擎意外停止', meaning: '它在工作中途自行结束。' };
      case 'E_CANCELLED':
        return { title: '已停止', meaning: '你停止了工作。' };
      case 'E_NOTHING_FITS':
        return {
          title: '没有方案放得进这个预算',
          meaning:
            typeof params['smallestBytes'] === 'number'
              ? `最小能到 ${bytes(params['smallestBytes'])}。`
              : 'Snug 的所有方案都低不过这个预算。',
        };
      case 'E_NOT_SUPPORTED':
        return {
          title: '这个模型做不到',
          meaning:
            typeof params['operator'] === 'string'
              ? `${params['operator']}（${text(params, 'node', '模型中的一个节点')}）无法完成所要求的事。`
              : '该算子、格式或设备无法完成所要求的事。',
        };
      case 'E_INTERNAL':
        return { title: 'Snug 内部出错', meaning: '这是 Snug 的缺陷，详细信息有助于修复。' };
    }
  },
});
