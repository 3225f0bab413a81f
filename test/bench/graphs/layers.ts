import type { GraphBuilder } from './builder.js';

/** Convolution with bias, weights scaled so that values keep their size through a Relu. */
export function conv(
  g: GraphBuilder,
  x: string,
  name: string,
  sizes: { from: number; to: number; kernel: number; stride?: number; pad?: number; groups?: number; bias?: boolean },
): string {
  const { from, to, kernel, stride = 1, groups = 1, bias = true } = sizes;
  const pad = sizes.pad ?? (kernel - 1) / 2;
  const depth = from / groups;
  const weight = g.weight(`${name}.weight`, [to, depth, kernel, kernel], Math.sqrt(2 / (depth * kernel * kernel)));
  const inputs = bias ? [x, weight, g.weight(`${name}.bias`, [to], 0.01)] : [x, weight];
  return g.op(
    'Conv',
    inputs,
    {
      dilations: [1, 1],
      group: groups,
      kernel_shape: [kernel, kernel],
      pads: [pad, pad, pad, pad],
      strides: [stride, stride],
    },
    `/${name}`,
  );
}

/** Batch normalization as it stands when the exporter did not fold it. */
export function batchNorm(g: GraphBuilder, x: string, name: string, channels: number): string {
  const parts = [
    g.positive(`${name}.weight`, channels),
    g.weight(`${name}.bias`, [channels], 0.01),
    g.weight(`${name}.running_mean`, [channels], 0.01),
    g.positive(`${name}.running_var`, channels),
  ];
  return g.op('BatchNormalization', [x, ...parts], { epsilon: { float: 1e-5 }, momentum: { float: 0.9 } }, `/${name}`);
}

/** Group normalization as exporters before opset 18 write it: InstanceNormalization over flattened groups. */
export function groupNorm(g: GraphBuilder, x: string, name: string, channels: number, groups: number): string {
  const scope = `/${name}`;
  const flat = g.op('Reshape', [x, g.int([0, groups, -1], scope)], {}, scope);
  const ones = g.float(Array<number>(groups).fill(1), scope);
  const zeros = g.float(Array<number>(groups).fill(0), scope);
  const normal = g.op('InstanceNormalization', [flat, ones, zeros], { epsilon: { float: 1e-5 } }, scope);
  const shaped = g.op('Reshape', [normal, g.op('Shape', [x], {}, scope)], {}, scope);
  const scaled = g.op('Mul', [shaped, g.weight(`${name}.weight`, [channels, 1, 1], 0.1, 1)], {}, scope);
  return g.op('Add', [scaled, g.weight(`${name}.bias`, [channels, 1, 1], 0.01)], {}, scope);
}

/** x W + b over the last axis, as MatMul and Add. */
export function linear(g: GraphBuilder, x: string, name: string, from: number, to: number, biasFirst = true): string {
  const weight = g.weight(`${name}.weight`, [from, to], Math.sqrt(1 / from));
  const bias = g.weight(`${name}.bias`, [to], 0.01);
  const product = g.op('MatMul', [x, weight], {}, `/${name}`);
  return g.op('Add', biasFirst ? [bias, product] : [product, bias], {}, `/${name}`);
}

/** LayerNormalization as one operator (opset 17). */
export function layerNorm(g: GraphBuilder, x: string, name: string, width: number, epsilon: number): string {
  const parts = [g.positive(`${name}.weight`, width), g.weight(`${name}.bias`, [width], 0.01)];
  return g.op('LayerNormalization', [x, ...parts], { axis: -1, epsilon: { float: epsilon } }, `/${name}`);
}

/** LayerNormalization as exporters before opset 17 write it. */
export function layerNormParts(g: GraphBuilder, x: string, name: string, width: number, epsilon: number): string {
  const scope = `/${name}`;
  const mean = g.op('ReduceMean', [x], { axes: [-1] }, scope);
  const centred = g.op('Sub', [x, mean], {}, scope);
  const squared = g.op('Pow', [centred, g.float(2, scope)], {}, scope);
  const variance = g.op('ReduceMean', [squared], { axes: [-1] }, scope);
  const root = g.op('Sqrt', [g.op('Add', [variance, g.float(epsilon, scope)], {}, scope)], {}, scope);
  const normal = g.op('Div', [centred, root], {}, scope);
  const scaled = g.op('Mul', [normal, g.positive(`${name}.weight`, width)], {}, scope);
  return g.op('Add', [scaled, g.weight(`${name}.bias`, [width], 0.01)], {}, scope);
}

/** x / 2 (1 + erf(x / sqrt 2)), as exporters before opset 20 write it. */
export function erfGelu(g: GraphBuilder, x: string, scope: string): string {
  const erf = g.op('Erf', [g.op('Div', [x, g.float(Math.SQRT2, scope)], {}, scope)], {}, scope);
  const factor = g.op('Add', [erf, g.float(1, scope)], {}, scope);
  return g.op('Mul', [g.op('Mul', [x, factor], {}, scope), g.float(0.5, scope)], {}, scope);
}
