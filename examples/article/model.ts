import { intAttribute, makeNode } from '../../src/onnx/graph.js';
import { DataType, type Model } from '../../src/onnx/model.js';
import { newModel } from '../../src/onnx/new-model.js';
import { float32Tensor } from '../../src/onnx/tensor.js';
import { normalNumbers, randomNumbers } from '../../src/train/random.js';

/** Widths of the perceptron that introductions to the subject use. */
export const [inputs, hidden, classes] = [1000, 100, 10];

/** 1000 → 100 → ReLU → 10 with random weights. */
export function articleModel(): Model {
  const normal = normalNumbers(1);
  const matrix = (name: string, rows: number, columns: number) =>
    float32Tensor(
      name,
      [rows, columns],
      Float32Array.from({ length: rows * columns }, () => normal() * Math.sqrt(2 / columns)),
    );
  const bias = (name: string, size: number) => float32Tensor(name, [size], new Float32Array(size));
  const tensors = [
    matrix('fc1.weight', hidden, inputs),
    bias('fc1.bias', hidden),
    matrix('fc2.weight', classes, hidden),
    bias('fc2.bias', classes),
  ];
  const linear = (x: string, layer: string, y: string) =>
    makeNode('Gemm', [x, `${layer}.weight`, `${layer}.bias`], [y], { transB: intAttribute(1) }, { name: layer });
  return newModel({
    name: 'article',
    opset: 17,
    nodes: [
      linear('x', 'fc1', 'h'),
      makeNode('Relu', ['h'], ['r'], {}, { name: 'relu' }),
      linear('r', 'fc2', 'logits'),
    ],
    weights: tensors,
    inputs: [{ name: 'x', dataType: DataType.FLOAT, dims: ['batch', inputs] }],
    outputs: [{ name: 'logits', dataType: DataType.FLOAT, dims: ['batch', classes] }],
    producerName: 'snug-example',
  });
}

/** Ten classes, two clouds of points each, so that no single layer could tell all of them apart by one direction. */
export function articleData(samples: number, seed: number): { data: Float32Array; labels: BigInt64Array } {
  const [random, normal] = [randomNumbers(seed), normalNumbers(seed + 1)];
  const place = normalNumbers(99);
  const centres = Float32Array.from({ length: 2 * classes * inputs }, () => place() * 0.25);
  const data = new Float32Array(samples * inputs);
  const labels = new BigInt64Array(samples);
  for (let sample = 0; sample < samples; sample++) {
    const cloud = Math.floor(random() * 2 * classes);
    labels[sample] = BigInt(cloud % classes);
    for (let i = 0; i < inputs; i++) data[sample * inputs + i] = centres[cloud * inputs + i]! + normal();
  }
  return { data, labels };
}
