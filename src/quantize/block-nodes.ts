import type { Provider } from '../contract/types.js';
import { getFloat, intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { blockMatrixSize, blocksPerRow, quantizeMatrix } from './block-matrix.js';
import type { CodeBits } from './block-search.js';
import { scaleBytes, type Editor } from './editor.js';
import type { WeightMatrix } from './matrix.js';
import { normalBlock, normalFloatSize, quantizeNormalFloat } from './normal-float.js';
import { accuracyLevel, blockDtype, blockFormatOf, matrixOf } from './plan.js';
import type { RefinedWeight } from './refine.js';
import { storedScaleType } from './sample.js';
import type { WeightSite, WeightUse } from './sites.js';

/** A weight in the graph, and the operator that multiplies by it. */
export interface WeightProduct {
  rows: number;
  /** Element type of the weight, and of what it multiplies. */
  dataType: number;
  /** Whether the operator adds a bias. */
  takesBias: boolean;
  /** The operator: `y = a · weight + bias`, no bias where it is ''. */
  node(label: string, a: string, bias: string, y: string): Node;
}

/** Codes chosen on samples for a weight that is read in this order. */
export function refinedFor(editor: Editor, site: WeightSite, order: WeightMatrix['order']): RefinedWeight | null {
  const refined = editor.refined.get(site.name);
  return refined?.order === order ? refined : null;
}

/**
 * Adds codes, scales and zero points of a weight times `alpha` to the graph that holds it, for
 * com.microsoft.MatMulNBits.
 * @param share of what it multiplies ({@link meanShares})
 */
export function addBlocks(
  editor: Editor,
  site: WeightSite,
  use: WeightUse,
  bits: CodeBits,
  alpha: number,
  share: number,
): WeightProduct {
  const { tensor, owner } = site;
  const matrix = matrixOf(site, use);
  const refined = refinedFor(editor, site, matrix.order);
  const asked = {
    dtype: blockDtype(bits),
    blockSize: editor.blockSize,
    zeroPoints: editor.zeroPoints,
  } as const;
  const format = refined?.matrix.format ?? blockFormatOf(matrix, asked, editor.provider);
  const { rows, columns } = matrix;
  const blocks = blocksPerRow(columns, format.blockSize);
  const size = blockMatrixSize(rows, columns, format);
  const stored = storedScaleType(tensor, accuracyLevel(editor.provider, bits) !== 0);
  const parts = editor.lazyParts<'codes' | 'scales' | 'zeroPoints'>(() => {
    const result = refined?.matrix ?? quantizeMatrix(matrix, { ...format, nearest: editor.nearest }, null, share);
    const scales = alpha === 1 ? result.scales : result.scales.map((scale) => scale * alpha);
    return {
      codes: result.codes,
      scales: scaleBytes(scales, stored.dataType),
      zeroPoints: result.zeroPoints ?? new Uint8Array(0),
    };
  });
  const blob = (format.blockSize * bits) / 8;
  const base = `${tensor.name}_q${bits}`;
  const scaleSize = size.scales * stored.bytes;
  const tensors = {
    codes: editor.add(owner, base, DataType.UINT8, [rows, blocks, blob], parts.data('codes', size.codes)),
    scales: editor.addScales(
      owner,
      `${base}_scales`,
      tensor,
      stored.dataType,
      [rows, blocks],
      parts.data('scales', scaleSize),
    ),
    zeroPoints: format.zeroPoints
      ? editor.add(
          owner,
          `${base}_zero_points`,
          DataType.UINT8,
          [rows, Math.ceil((blocks * bits) / 8)],
          parts.data('zeroPoints', size.zeroPoints),
        )
      : '',
  };
  return {
    rows,
    dataType: tensor.dataType,
    takesBias: takesBias(editor.provider),
    node: (label, a, bias, y) => {
      const inputs = [a, tensors.codes, tensors.scales, tensors.zeroPoints, '', bias];
      while (inputs[inputs.length - 1] === '') inputs.pop();
      const level = accuracyLevel(editor.provider, bits);
      const attributes = {
        K: intAttribute(columns),
        N: intAttribute(rows),
        bits: intAttribute(bits),
        block_size: intAttribute(format.blockSize),
        ...(level === 0 ? {} : { accuracy_level: intAttribute(level) }),
      };
      return makeNode('MatMulNBits', inputs, [y], attributes, {
        name: editor.name(`${label}_q${bits}`),
        domain: 'com.microsoft',
      });
    },
  };
}

/** Whether the provider's MatMulNBits adds a bias. */
export const takesBias = (provider: Provider): boolean => provider === 'cpu' || provider === 'webgpu';

/** Adds codes and scales of a weight times `alpha` in NF4, for com.microsoft.MatMulBnb4. */
export function addNormalFloat(editor: Editor, site: WeightSite, use: WeightUse, alpha: number): WeightProduct {
  const { tensor, owner } = site;
  const matrix = matrixOf(site, use);
  const { rows, columns } = matrix;
  const stored = storedScaleType(tensor);
  const size = normalFloatSize(rows * columns);
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const { codes, scales } = quantizeNormalFloat(matrix, stored.half);
    const scaled = alpha === 1 ? scales : scales.map((scale) => scale * alpha);
    return { codes, scales: scaleBytes(scaled, stored.dataType) };
  });
  const base = `${tensor.name}_nf4`;
  const codes = editor.add(owner, base, DataType.UINT8, [size.codes], parts.data('codes', size.codes));
  const scaleData = parts.data('scales', size.scales * stored.bytes);
  const scales = editor.addScales(owner, `${base}_scales`, tensor, stored.dataType, [size.scales], scaleData);
  const attributes = {
    K: intAttribute(columns),
    N: intAttribute(rows),
    block_size: intAttribute(normalBlock),
    quant_type: intAttribute(1),
  };
  return {
    rows,
    dataType: tensor.dataType,
    takesBias: false,
    node: (label, a, _, y) =>
      makeNode('MatMulBnb4', [a, codes, scales], [y], attributes, {
        name: editor.name(`${label}_nf4`),
        domain: 'com.microsoft',
      }),
  };
}

/** `product + beta · c` as the output of a Gemm of elements of `dataType`. */
export function addScaled(
  editor: Editor,
  graph: Graph,
  node: Node,
  product: string,
  c: string,
  nodes: Node[],
  dataType: number,
): void {
  const label = node.name || node.outputs[0]!;
  const beta = getFloat(node, 'beta', 1);
  let addend = c;
  if (beta !== 1) {
    const factor = editor.addBytes(graph, `${label}_beta`, dataType, [], scaleBytes(Float32Array.of(beta), dataType));
    addend = editor.name(`${label}_c_scaled`);
    nodes.push(makeNode('Mul', [c, factor], [addend], {}, { name: addend }));
  }
  nodes.push(makeNode('Add', [product, addend], [node.outputs[0]!], {}, { name: editor.name(`${label}_bias`) }));
}
