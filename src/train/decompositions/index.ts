import type { Decompositions } from '../decompose.js';
import { attentionDecompositions } from './attention.js';
import { fusedDecompositions } from './fused.js';
import { quantizedDecompositions } from './quantized.js';
import { recurrentDecompositions } from './recurrent.js';

/** How operators without a gradient rule are said in others, by the names that gradient rules have, too. */
export const decompositions: Decompositions = {
  ...fusedDecompositions,
  ...attentionDecompositions,
  ...recurrentDecompositions,
  ...quantizedDecompositions,
};
