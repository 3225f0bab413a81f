import type { Dtype } from '../../src/contract/types.js';

type Words = (match: RegExpExecArray) => string;

/** Reasons of the table of truth and of single weights, in src/quantize and src/fit. */
const reasons: Record<string, string> = {
  'its operator has no quantized form; it computes with the full-precision weight':
    '它的算子没有量化形式，只能用全精度权重计算',
  'its operator has no 4-bit form': '它的算子没有 4 位形式',
  'its operator has no 2-bit form': '它的算子没有 2 位形式',
  'only matrix products look codes up in a table': '只有矩阵乘法能查表取值',
  'codes of a table are looked up on the CPU under this provider, with copies both ways':
    '在此执行提供程序下查表在 CPU 上进行，数据要来回复制',
  'stored small, unpacked for the moment its operator runs, which takes several times as long':
    '以小尺寸存放，只在算子运行时展开，运行时间要长几倍',
  'what it multiplies and the result are transposed': '与它相乘的数据和结果都要转置',
  'integer products take the weight as one matrix on the right': '整数乘法只接受右侧的单个矩阵作权重',
  'the dimensions of what it multiplies are not known': '与它相乘的数据的维度未知',
  'it multiplies a vector': '它乘的是向量',
  'its rows do not divide into bytes of four codes': '它的行不能按每字节四个码划分',
  'stored small, unpacked for the moment its operator runs': '以小尺寸存放，只在算子运行时展开',
  'the CPU computes float16 in float32, so the weight would be held at full size':
    'CPU 用 float32 计算 float16，权重仍会占用全部大小',
  'there is no integer ConvTranspose': '没有整数的 ConvTranspose',
  'rows are looked up, nothing is computed: 8-bit blocks': '只查表，不计算：按 8 位块存放',
  'recurrent weights are offered as int8 only': '循环层的权重只提供 8 位',
  'onnxruntime has no integer ConvTranspose; Q/DQ around it would only add work':
    'onnxruntime 没有整数的 ConvTranspose，加上量化节点只会更慢',
  'integer arithmetic runs on the CPU under this provider, with copies both ways':
    '在这个运行设备上，整数运算会退回 CPU，并来回复制数据',
  'needs a device with shader-f16': '需要支持 shader-f16 的设备',
  'the weight is no matrix': '权重不是矩阵',
  'recurrent layers of this kind have no integer form': '这种循环层没有整数形式',
  'its batch comes first': '它的批次排在最前',
  'its other weight is not a constant beside it': '它的另一个权重不是同处的常量',
  'the other weight of its layer is not': '该层的另一个权重不是这种格式',
  'recurrent operators run on the CPU under this provider': '在这个运行设备上，循环层算子在 CPU 上运行',
  'not confirmed on this provider': '在这个运行设备上尚未确认可行',
  'activations are quantized on the CPU under this provider, with copies both ways':
    '在这个运行设备上，激活值要在 CPU 上量化，并来回复制数据',
  'this provider unpacks Q/DQ models to full precision; only TensorRT would not':
    '这个运行设备会把量化模型展开为全精度，只有 TensorRT 不会',
  'Core ML does not take this operator, it would run on the CPU': 'Core ML 不接受这个算子，会在 CPU 上运行',
  'Core ML computes in float16 either way': 'Core ML 总是用 float16 计算',
  'not possible': '不可行',
  'not possible here': '在这里不可行',
  'no operator uses it': '没有算子用到它',
  'with its scales it would not get smaller': '加上缩放系数后不会变小',
  'it is not float32': '它不是 float32',
  'it holds values that are infinite or no numbers (NaN)': '它含有无穷大或非数值',
  'its body of If or Loop stays float32: its types are not all known':
    '它所在的 If 或 Loop 内部保持 float32：其中的类型并非全部已知',
  'it needs the range of float32': '它需要 float32 的数值范围',
  'weights of this number format are not quantized further': '这种数值格式的权重不再量化',
  'the weight is a stack of matrices, not one matrix': '这个权重是一叠矩阵，不是单个矩阵',
  'only tables of rows have a quantized form': '只有按行存放的表才有量化形式',
  'its rows do not divide into blocks of 16': '它的行不能按 16 个一块划分',
  'its weight has no kernel dimensions': '它的权重没有卷积核维度',
  'too few input channels for blocks of 16': '输入通道太少，不够 16 个一块',
  'its weight has not the expected three dimensions': '它的权重不是应有的三个维度',
  'calibration does not see inside bodies of If and Loop': '校准看不到 If 和 Loop 的内部',
  'its weight is stored transposed': '它的权重是转置存放的',
  'its input is a constant': '它的输入是常量',
  'its bias is not a constant vector': '它的偏置不是常量向量',
  'its bias has not one value for each output': '它的偏置不是每个输出一个值',
  'integer kernels need transA = 0 and alpha = beta = 1': '整数计算要求 transA = 0 且 alpha = beta = 1',
  'the caller may replace it (it is also a graph input)': '调用者可能替换它（它也是模型的输入）',
  'it is itself an output of the graph': '它本身就是模型的输出',
  'needs calibration samples': '需要校准样本',
  'calibration saw no values of its input': '校准时没有见到它的输入值',
  'no weight of this model can have it here': '这个模型没有权重能用它',
  'the file does not say how many dimensions it has': '文件没有写明它有几个维度',
  'the sizes do not work out': '各个大小对不上',
};

/** Whole sentences, some with a name or a number in them. */
const sentences: [RegExp, Words][] = [
  [
    /^too large \((\d+) × (\d+)\) to choose its (\d)-bit codes on samples$/u,
    (m) => `太大（${m[1]} × ${m[2]}），无法按样本选择它的 ${m[3]} 位编码`,
  ],
  [
    /^opset (\d+) cannot be raised to (\d+): opset \d+ is too old$/u,
    (m) => `opset ${m[1]} 无法升级到 ${m[2]}：版本太旧`,
  ],
  [
    /^opset (\d+) cannot be raised to (\d+): the model has functions of its own$/u,
    (m) => `opset ${m[1]} 无法升级到 ${m[2]}：模型带有自己的函数`,
  ],
  [
    /^opset (\d+) cannot be raised to (\d+): (\w+)(?: \(node .*\))? means something else there.*$/u,
    (m) => `opset ${m[1]} 无法升级到 ${m[2]}：${m[3]} 在那里含义不同`,
  ],
  [
    /^The model was raised from opset (\d+) to (\d+), which its number formats need\.$/u,
    (m) => `模型已从 opset ${m[1]} 升级到 ${m[2]}，它的数字格式需要这样。`,
  ],
  [
    /^(\d+) constants that the file listed as inputs cannot be given from outside any more\.$/u,
    (m) => `文件列为输入的 ${m[1]} 个常量不能再从外部给出。`,
  ],
  [/^the values of input "(.*)" are only known while running$/u, (m) => `输入“${m[1]}”的值要到运行时才知道`],
  [/^the shape of input "(.*)" is unknown$/u, (m) => `输入“${m[1]}”的形状未知`],
  [/^no shape rule for the operator (\S+)$/u, (m) => `没有算子 ${m[1]} 的形状规则`],
  [/^"(.*)" needs (\d+) bytes in one piece, more than 2 GiB$/u, (m) => `“${m[1]}”需要一整块 ${m[2]} 字节，超过 2 GiB`],
  [
    /^"(.*)" needs (\d+) bytes in one piece, more than 256 MiB, the buffer size every WebGPU device has$/u,
    (m) => `“${m[1]}”需要一整块 ${m[2]} 字节，超过所有 WebGPU 设备都有的 256 MiB 缓冲区`,
  ],
  [
    /^"(.*)" needs (\d+) bytes in one binding, more than the 128 MiB every WebGPU device can bind; where it can bind no more, in pieces$/u,
    (m) => `“${m[1]}”需要一次绑定 ${m[2]} 字节，超过所有 WebGPU 设备都能绑定的 128 MiB；不能绑定更多时会分段进行`,
  ],
  [/^Memory ran out while the model was loaded\.$/u, () => '加载模型时内存不足。'],
  [/^Memory ran out while the model ran\.$/u, () => '运行模型时内存不足。'],
  [/^The system ended the model’s process because memory ran out\.$/u, () => '内存不足，系统结束了运行模型的进程。'],
  [/^There is no memory for one weight of (\d+) bytes\.$/u, (m) => `没有内存容纳一个 ${m[1]} 字节的权重。`],
  [/^The runtime has no kernel for the operator (.*)\.$/u, (m) => `运行时没有算子 ${m[1]} 的实现。`],
  [/^The runtime refused to load this model\.$/u, () => '运行时拒绝加载这个模型。'],
  [/^The runtime failed while it ran the model\.$/u, () => '运行时在运行模型时失败。'],
  [/^The runtime failed\.$/u, () => '运行时失败。'],
  [/^The process that runs the model crashed \((.*)\)\.$/u, (m) => `运行模型的进程意外结束（${m[1]}）。`],
  [/^The samples drive the model to values that are not finite\.$/u, () => '样本让模型算出了非有限的数值。'],
  [/^Stopped\. Nothing was changed\.$/u, () => '已停止，没有改动任何东西。'],
  [
    /^The operator (\S+) \(node (.*)\) is not known to the runtime: the model can be read, not run\.$/u,
    (m) => `运行时不认识算子 ${m[1]}（节点 ${m[2]}）：模型可以读取，但不能运行。`,
  ],
  [
    /^Without samples, the layers were refitted on made-up inputs; the answers are closer for it\.$/u,
    () => '没有样本，各层按虚构的输入重新拟合，答案因此更接近原模型。',
  ],
  [/^Without samples, the layers were refitted on made-up inputs\.$/u, () => '没有样本，各层按虚构的输入重新拟合。'],
  [
    /^The model could not be run with changed weights, so their values alone decided which format each got\.$/u,
    () => '无法逐个运行各权重，因此只根据权重的数值决定各自的格式。',
  ],
  [
    /^Refitting the layers on made-up inputs did not help, so it was left out\.$/u,
    () => '按虚构的输入重新拟合没有帮助，因此没有采用。',
  ],
  [
    /^Nothing was trained: there are too few samples to train on some and judge by others, or the model takes a fixed number at a time\.$/u,
    () => '没有训练：样本太少，无法一部分用来训练、另一部分用来评判，或者模型每次只接受固定数量的样本。',
  ],
  [
    /^The model did not take made-up inputs, so nothing was refitted\.$/u,
    () => '模型不接受虚构的输入，因此没有重新拟合。',
  ],
  [
    /^Every group was cut by the same share: measuring which ones cost least would take about (\d+) minutes\.$/u,
    (m) => `每组按相同比例剪枝：测量哪些组代价最小约需 ${m[1]} 分钟。`,
  ],
  [
    /^Training what pruning left was tried; answers did not get closer for it\.$/u,
    () => '试过训练剪枝后剩下的部分，答案没有因此更接近原模型。',
  ],
  [
    /^Training what pruning left did not bring the answers closer, so it was left out\.$/u,
    () => '训练剪枝后剩下的部分没有让答案更接近原模型，因此没有采用。',
  ],
  [
    /^Training after quantization was tried; answers did not get closer for it\.$/u,
    () => '试过在量化后训练，答案没有因此更接近原模型。',
  ],
  [
    /^Training after quantization did not bring the answers closer, so it was left out\.$/u,
    () => '量化后训练没有让答案更接近原模型，因此没有采用。',
  ],
  [
    /^(Training what pruning left|Training after quantization) brought one answer closer and another further away, so it was left out\.$/u,
    (m) =>
      `${m[1]?.endsWith('left') ? '训练剪枝后剩下的部分' : '量化后训练'}让一个答案更接近原模型，却让另一个更远，因此没有采用。`,
  ],
  [
    /^Nothing was trained after (pruning|quantization): the answers are close to the original’s already\.$/u,
    (m) => `${m[1] === 'pruning' ? '剪枝' : '量化'}后没有训练：答案已经很接近原模型。`,
  ],
  [
    /^Nothing was trained after (pruning|quantization): no weight that can be trained acts on the answers\.$/u,
    (m) => `${m[1] === 'pruning' ? '剪枝' : '量化'}后没有训练：没有可训练的权重影响答案。`,
  ],
  [
    /^Nothing was trained after quantization: the time for training was used up before\.$/u,
    () => '量化后没有训练：训练时间在此之前已经用完。',
  ],
  [
    /^Training after quantization was stopped: the model is as it was quantized on four fifths of the samples\.$/u,
    () => '量化后的训练已停止：模型保持用五分之四的样本量化后的样子。',
  ],
  [
    /^Nothing was trained after quantization: no gradient leads through some operator of the model\.$/u,
    () => '量化后没有训练：模型中有的算子无法传递梯度。',
  ],
  [
    /^After (pruning|quantization), (?:(\d+) blocks|all weights together|scales, biases and other small weights) were trained on unlabelled samples for (\d+) s: (\S+) → (\S+) (dB|nats) (?:signal to noise|from the original) on the samples that chose the best step\.$/u,
    ([, change, blocks, seconds, from, to, unit]) => {
      const small = change === 'pruning' ? '全部权重' : '缩放系数、偏置和其他小权重';
      const what = blocks ? `${blocks} 个块` : small;
      const measure = unit === 'dB' ? `信噪比 ${from} → ${to} 分贝` : `与原模型的差异 ${from} → ${to} 奈特`;
      return `${change === 'pruning' ? '剪枝' : '量化'}后用无标签样本训练了${what}，用时 ${seconds} 秒：在用来挑选最佳步骤的样本上，${measure}。`;
    },
  ],
  [
    /^The file fixes the batch at (\d+); (\d+) is not possible\.$/u,
    (m) => `文件把批量固定为 ${m[1]}，不能用 ${m[2]}。`,
  ],
  [
    /^values there reach (\S+), too close to the end of float16 \(65504\)$/u,
    (m) => `那里的数值达到 ${m[1]}，太接近 float16 的上限（65504）`,
  ],
  [/^(\d+) sparse weights are kept as they are\.$/u, (m) => `${m[1]} 个稀疏权重保持不变。`],
  [/^The rank of input "(.*)" is not known\.$/u, (m) => `输入“${m[1]}”有几个维度未知。`],
  [/^Input "(.*)" has a dimension without a name\.$/u, (m) => `输入“${m[1]}”有一个没有名字的维度。`],
];

/** Sentences the engine says in English, in Chinese; what is not listed here is shown as it came. */
export function engineZhCN(
  dtype: Record<Dtype, string>,
  bytes: (size: number) => string,
): Record<'sentence' | 'clause', (text: string) => string> {
  const formats = new Map<string, string>(Object.entries(dtype));

  /** Sizes as the rest of the page writes them. */
  const sized = (text: string): string => text.replace(/(\d{4,}) (?:字节|bytes)/gu, (_, size) => bytes(Number(size)));

  function translate(text: string): string | null {
    const reason = reasons[text] ?? formats.get(text);
    if (reason !== undefined) return reason;
    for (const [pattern, words] of sentences) {
      const match = pattern.exec(text);
      if (match !== null) return words(match);
    }
    return composed(text);
  }

  /** Sentences built around others: `Conv: …`, `not int8-static: …`, `…; …`. */
  function composed(text: string): string | null {
    const around: [RegExp, (match: RegExpExecArray, inner: string) => string][] = [
      [/^not (?<format>[\w-]+): (?<inner>.*)$/u, (m, inner) => `不能用${formats.get(m[1] ?? '') ?? ''}：${inner}`],
      [
        /^(?<share>\d+) % of the weights keep another format \((?<inner>.*)\)$/u,
        (m, inner) => `${m[1]}% 的权重保持其他格式（${inner}）`,
      ],
      [/^no (?<inner>[\w-]+) encoding for this operator$/u, (_m, inner) => `这个算子没有${inner}形式`],
      [
        /^Training after quantization failed, so it was left out: (?<inner>.*)$/u,
        (_m, inner) => `量化后训练失败，因此没有采用：${inner}`,
      ],
      [/^The original could not run here: (?<inner>.*)$/u, (_m, inner) => `原模型在这里无法运行：${inner}`],
      [/^(?<inner>.*) The best so far was kept\.$/u, (_m, inner) => `${inner}已保留目前最好的结果。`],
      [/^(?<operator>[A-Z]\w*): (?<inner>.*)$/u, (m, inner) => `${m[1]}：${inner}`],
    ];
    for (const [pattern, words] of around) {
      const match = pattern.exec(text);
      const inner = match === null ? null : translate(match.groups?.['inner'] ?? '');
      if (match !== null && inner !== null) return words(match, inner);
    }
    for (let at = text.indexOf('; '); at >= 0; at = text.indexOf('; ', at + 1)) {
      const [left, right] = [translate(text.slice(0, at)), translate(text.slice(at + 2))];
      if (left !== null && right !== null) return `${left}；${right}`;
    }
    return null;
  }

  return {
    sentence: (text) => sized(translate(text) ?? text),
    clause: (text) => sized(translate(text) ?? text).replace(/[.。]$/u, ''),
  };
}
