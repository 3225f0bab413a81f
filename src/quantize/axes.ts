import { getInt } from '../onnx/graph.js';
import type { WeightUse } from './sites.js';

/** Axis of a weight of `rank` dimensions that carries the output channels, where int8 has its own scale. */
export function channelAxis(use: WeightUse, rank = 2): number {
  switch (use.role) {
    case 'matmul-left': {
      const stored = use.node.opType === 'Gemm' ? getInt(use.node, 'transA', 0) : 0;
      return use.transpose === null ? stored : 1 - stored;
    }
    case 'matmul-stack':
      return use.input === 1 ? rank - 1 : rank - 2;
    case 'matmul':
      return use.transpose === null ? 1 : 0;
    case 'gemm': {
      const stored = getInt(use.node, 'transB', 0) === 1 ? 0 : 1;
      return use.transpose === null ? stored : 1 - stored;
    }
    case 'conv-transpose':
    case 'lstm':
      return 1;
    case 'conv':
    case 'gather':
    case 'other':
      return 0;
  }
}

/** Axis of a Conv weight or of stacked matrices that is summed over: blocks lie along it. */
export function summedAxis(use: WeightUse, rank: number): number {
  return use.role === 'matmul-stack' ? rank - 1 - use.input : 1;
}

/** Axis of a weight along which values share a scale, whatever the role. */
export function blockAxis(use: WeightUse, rank: number): number {
  if (use.role === 'gather' || use.role === 'lstm' || use.role === 'other') return rank - 1;
  return rank === 2 && use.role !== 'matmul-stack' ? 1 - channelAxis(use) : summedAxis(use, rank);
}
