import { DataType, type Model } from '../../../src/onnx/model.js';
import { GraphBuilder } from './builder.js';
import { batchNorm, conv, groupNorm } from './layers.js';

export interface VisionOptions {
  /** Multiplies all widths (a power of two at most 1); default 1, the published size. */
  scale?: number;
  /** Side of the image; default 224 (the U-Net's height and width are symbols). */
  image?: number;
  seed?: number;
}

const float = DataType.FLOAT;

/** ResNet-50 as torch exports it in evaluation mode: batch normalization folded into the convolutions. */
export function resnet50({ scale = 1, image = 224, seed = 1 }: VisionOptions = {}): Model {
  const g = new GraphBuilder('resnet50', seed);
  const base = 64 * scale;
  let x = g.input('input', float, ['batch', 3, image, image]);
  x = g.op('Relu', [conv(g, x, 'conv1', { from: 3, to: base, kernel: 7, stride: 2 })], {}, '/relu');
  const window = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2], ceil_mode: 0 };
  x = g.op('MaxPool', [x], window, '/maxpool');
  let from = base;
  [3, 4, 6, 3].forEach((blocks, stage) => {
    const width = base * 2 ** stage;
    for (let block = 0; block < blocks; block++) {
      const name = `layer${stage + 1}.${block}`;
      const stride = block === 0 && stage > 0 ? 2 : 1;
      let y = g.op('Relu', [conv(g, x, `${name}.conv1`, { from, to: width, kernel: 1 })], {}, `/${name}`);
      y = g.op('Relu', [conv(g, y, `${name}.conv2`, { from: width, to: width, kernel: 3, stride })], {}, `/${name}`);
      y = conv(g, y, `${name}.conv3`, { from: width, to: width * 4, kernel: 1 });
      const skip = block === 0 ? conv(g, x, `${name}.downsample`, { from, to: width * 4, kernel: 1, stride }) : x;
      x = g.op('Relu', [g.op('Add', [y, skip], {}, `/${name}`)], {}, `/${name}`);
      from = width * 4;
    }
  });
  const flat = g.op('Flatten', [g.op('GlobalAveragePool', [x], {}, '/avgpool')], { axis: 1 });
  const weight = g.weight('fc.weight', [1000, from], Math.sqrt(1 / from));
  const logits = g.op('Gemm', [flat, weight, g.weight('fc.bias', [1000], 0.01)], { transB: 1 }, '/fc');
  g.output(logits, 'output', float, ['batch', 1000]);
  return g.finish(17);
}

/** MobileNetV2 with batch normalization kept and ReLU6 as Clip with constant bounds. */
export function mobilenetV2({ scale = 1, image = 224, seed = 2 }: VisionOptions = {}): Model {
  const g = new GraphBuilder('mobilenetv2', seed);
  const width = (channels: number) => Math.max(8, Math.round((channels * scale) / 8) * 8);
  const unit = (x: string, name: string, sizes: Parameters<typeof conv>[3], active = true): string => {
    const normal = batchNorm(g, conv(g, x, `${name}.0`, { ...sizes, bias: false }), `${name}.1`, sizes.to);
    const scope = `/${name}.2`;
    return active ? g.op('Clip', [normal, g.float(0, scope), g.float(6, scope)], {}, scope) : normal;
  };
  let x = g.input('input', float, ['batch', 3, image, image]);
  let from = width(32);
  x = unit(x, 'features.0', { from: 3, to: from, kernel: 3, stride: 2 });
  let index = 1;
  for (const [expand, channels, repeats, firstStride] of [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
  ] as const) {
    for (let repeat = 0; repeat < repeats; repeat++) {
      const name = `features.${index++}.conv`;
      const stride = repeat === 0 ? firstStride : 1;
      const to = width(channels);
      const inner = from * expand;
      let y = expand === 1 ? x : unit(x, `${name}.expand`, { from, to: inner, kernel: 1 });
      y = unit(y, `${name}.depthwise`, { from: inner, to: inner, kernel: 3, stride, groups: inner });
      y = unit(y, `${name}.project`, { from: inner, to, kernel: 1 }, false);
      x = stride === 1 && from === to ? g.op('Add', [x, y], {}, `/${name}`) : y;
      from = to;
    }
  }
  const last = width(1280);
  x = unit(x, 'features.18', { from, to: last, kernel: 1 });
  const flat = g.op('Flatten', [g.op('GlobalAveragePool', [x])], { axis: 1 });
  const weight = g.weight('classifier.1.weight', [1000, last], Math.sqrt(1 / last));
  const logits = g.op(
    'Gemm',
    [flat, weight, g.weight('classifier.1.bias', [1000], 0.01)],
    { transB: 1 },
    '/classifier',
  );
  g.output(logits, 'output', float, ['batch', 1000]);
  return g.finish(17);
}

export interface UNetOptions extends Omit<VisionOptions, 'image'> {
  /** How the way up enlarges: a transposed convolution (default) or nearest-neighbour Resize and a convolution. */
  up?: 'transpose' | 'resize';
}

/**
 * U-Net of five levels (64 to 1024 channels): group normalization and SiLU after each convolution, skips joined by
 * Concat. Height and width are symbols; both must be multiples of 16.
 */
export function unet({ scale = 1, seed = 3, up = 'transpose' }: UNetOptions = {}): Model {
  const g = new GraphBuilder('unet', seed);
  const base = 64 * scale;
  const unit = (x: string, name: string, from: number, to: number): string => {
    const normal = groupNorm(g, conv(g, x, `${name}.conv`, { from, to, kernel: 3 }), `${name}.norm`, to, 8);
    return g.op('Mul', [normal, g.op('Sigmoid', [normal], {}, `/${name}.act`)], {}, `/${name}.act`);
  };
  const pair = (x: string, name: string, from: number, to: number) =>
    unit(unit(x, `${name}.0`, from, to), `${name}.1`, to, to);
  const widths = [1, 2, 4, 8, 16].map((factor) => base * factor);
  const skips: string[] = [];
  let x = g.input('input', float, ['batch', 3, 'height', 'width']);
  let from = 3;
  widths.forEach((width, level) => {
    if (level > 0) x = g.op('MaxPool', [x], { kernel_shape: [2, 2], strides: [2, 2] }, `/down${level}`);
    x = pair(x, `down${level}`, from, width);
    skips.push(x);
    from = width;
  });
  for (let level = widths.length - 2; level >= 0; level--) {
    const width = widths[level] ?? base;
    const name = `up${level}`;
    if (up === 'transpose') {
      const weight = g.weight(`${name}.weight`, [from, width, 2, 2], Math.sqrt(1 / from));
      const window = { dilations: [1, 1], group: 1, kernel_shape: [2, 2], pads: [0, 0, 0, 0], strides: [2, 2] };
      x = g.op('ConvTranspose', [x, weight, g.weight(`${name}.bias`, [width], 0.01)], window, `/${name}`);
    } else {
      const scales = g.float([1, 1, 2, 2], `/${name}`);
      const mode = { coordinate_transformation_mode: 'asymmetric', mode: 'nearest', nearest_mode: 'floor' };
      x = conv(g, g.op('Resize', [x, '', scales], mode, `/${name}`), name, { from, to: width, kernel: 3 });
    }
    x = g.op('Concat', [skips[level] ?? '', x], { axis: 1 }, `/${name}`);
    x = pair(x, name, width * 2, width);
    from = width;
  }
  g.output(conv(g, x, 'head', { from: base, to: 2, kernel: 1 }), 'output', float, ['batch', 2, 'height', 'width']);
  return g.finish(17);
}
