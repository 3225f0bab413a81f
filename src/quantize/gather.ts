import { intAttribute, makeNode } from '../onnx/graph.js';
import { DataType } from '../onnx/model.js';
import { blocksPerRow, quantizeMatrix, type BlockMatrix } from './block-matrix.js';
import type { CodeBits } from './block-search.js';
import { scaleBytes, type Editor } from './editor.js';
import { gatherBlock, matrixOf } from './plan.js';
import { storedScaleType } from './sample.js';
import type { WeightSite, WeightUse } from './sites.js';

/**
 * Replaces Gather nodes over a table by com.microsoft.GatherBlockQuantized. Of the encodings the operator
 * knows, these mean the same on the CPU and on WebGPU of onnxruntime 1.30: INT4 without zero points, and
 * uint8 with bits = 8 or 2 (uint8 with 4 bits and no zero points decodes differently).
 */
export function encodeGather(editor: Editor, site: WeightSite, uses: readonly WeightUse[], bits: CodeBits): void {
  const { tensor, owner } = site;
  const matrix = matrixOf(site, uses[0]!);
  const { rows, columns } = matrix;
  const blockSize = gatherBlock(columns, bits, editor.blockSize);
  const stored = storedScaleType(tensor);
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const result = quantizeMatrix(matrix, {
      ...{ bits, blockSize, zeroPoints: false },
      ...{ halfScales: stored.half, nearest: editor.nearest },
    });
    // Codes 0 … 15 around 8 become two's complement −8 … 7: flip the top bit of each nibble.
    if (bits === 4) flipTopBits(result.codes);
    return { codes: withoutPadding(result), scales: scaleBytes(result.scales, stored.dataType) };
  });
  const base = `${tensor.name}_rows_q${bits}`;
  const codes = editor.add(
    owner,
    base,
    bits === 4 ? DataType.INT4 : DataType.UINT8,
    // uint8 of fewer bits is packed along the row.
    [rows, bits === 2 ? columns / 4 : columns],
    parts.data('codes', Math.ceil((rows * columns * bits) / 8)),
  );
  const blocks = blocksPerRow(columns, blockSize);
  const scaleSize = rows * blocks * stored.bytes;
  const scales = editor.addScales(
    owner,
    `${base}_scales`,
    tensor,
    stored.dataType,
    [rows, blocks],
    parts.data('scales', scaleSize),
  );
  for (const { graph, node } of uses) {
    const label = node.name || node.outputs[0]!;
    editor.replace(graph, node, [
      makeNode(
        'GatherBlockQuantized',
        [codes, node.inputs[1]!, scales],
        [node.outputs[0]!],
        {
          gather_axis: intAttribute(0),
          quantize_axis: intAttribute(1),
          block_size: intAttribute(blockSize),
          bits: intAttribute(bits),
        },
        { name: editor.name(`${label}_q${bits}`), domain: 'com.microsoft' },
      ),
    ]);
  }
  editor.require('com.microsoft', 1);
  // INT4 tensors exist from IR version 10 on.
  if (bits === 4) editor.model.irVersion = Math.max(editor.model.irVersion, 10);
}

function flipTopBits(codes: Uint8Array): void {
  for (let i = 0; i < codes.length; i++) codes[i]! ^= 0x88;
}

/** Codes of a table one after the other: rows end with their last column, not with a whole block. */
function withoutPadding({ codes, rows, columns, format: { bits, blockSize } }: BlockMatrix): Uint8Array {
  const padded = blocksPerRow(columns, blockSize) * blockSize;
  if (padded === columns) return codes;
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  const packed = new Uint8Array(Math.ceil((rows * columns) / perByte));
  for (let row = 0, to = 0; row < rows; row++) {
    for (let from = row * padded; from < row * padded + columns; from++, to++) {
      const code = (codes[Math.floor(from / perByte)]! >> (bits * (from % perByte))) & mask;
      packed[Math.floor(to / perByte)]! |= code << (bits * (to % perByte));
    }
  }
  return packed;
}
