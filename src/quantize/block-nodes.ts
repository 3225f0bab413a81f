import { getFloat, intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { blockMatrixSize, blocksPerRow, quantizeMatrix, type BlockFormat } from './block-matrix.js';
import type { CodeBits } from './block-search.js';
import { scaleBytes, type Editor } from './editor.js';
import type { WeightMatrix } from './matrix.js';
import { accuracyLevel, blockDtype, blockFormatOf, matrixOf } from './plan.js';
import type { RefinedWeight } from './refine.js';
import { storedScaleType } from './sample.js';
import type { WeightSite, WeightUse } from './sites.js';

/** A weight in the graph as com.microsoft.MatMulNBits reads it. */
export interface BlockTensors {
  codes: string;
  scales: string;
  zeroPoints: string;
  format: BlockFormat;
  rows: number;
  columns: number;
}

/** Codes chosen on samples for a weight that is read in this order. */
export function refinedFor(editor: Editor, site: WeightSite, order: WeightMatrix['order']): RefinedWeight | null {
  const refined = editor.refined.get(site.name);
  return refined?.order === order ? refined : null;
}

/**
 * Adds codes, scales and zero points of a weight times `alpha` to the graph that holds it.
 * @param share of what it multiplies ({@link meanShares})
 */
export function addBlockTensors(
  editor: Editor,
  site: WeightSite,
  use: WeightUse,
  bits: CodeBits,
  alpha: number,
  share: number,
): BlockTensors {
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
    const result = refined?.matrix ?? quantizeMatrix(matrix, format, null, share);
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
  return {
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
    format,
    rows,
    columns,
  };
}

/** The MatMulNBits of `a` by a weight. */
export function blockNode(
  editor: Editor,
  label: string,
  a: string,
  tensors: BlockTensors,
  bias: string,
  y: string,
): Node {
  const { format } = tensors;
  const level = accuracyLevel(editor.provider, format.bits);
  const inputs = [a, tensors.codes, tensors.scales, tensors.zeroPoints, '', bias];
  while (inputs[inputs.length - 1] === '') inputs.pop();
  return makeNode(
    'MatMulNBits',
    inputs,
    [y],
    {
      K: intAttribute(tensors.columns),
      N: intAttribute(tensors.rows),
      bits: intAttribute(format.bits),
      block_size: intAttribute(format.blockSize),
      ...(level === 0 ? {} : { accuracy_level: intAttribute(level) }),
    },
    { name: editor.name(`${label}_q${format.bits}`), domain: 'com.microsoft' },
  );
}

/** `product + beta · c` as the output of a Gemm. */
export function addScaled(editor: Editor, graph: Graph, node: Node, product: string, c: string, nodes: Node[]): void {
  const label = node.name || node.outputs[0]!;
  const beta = getFloat(node, 'beta', 1);
  let addend = c;
  if (beta !== 1) {
    const factor = editor.addFloats(graph, `${label}_beta`, [], Float32Array.of(beta));
    addend = editor.name(`${label}_c_scaled`);
    nodes.push(makeNode('Mul', [c, factor], [addend], {}, { name: addend }));
  }
  nodes.push(makeNode('Add', [product, addend], [node.outputs[0]!], {}, { name: editor.name(`${label}_bias`) }));
}
