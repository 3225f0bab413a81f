import type { Decompositions } from '../decompose.js';
export const attentionDecompositions: Decompositions = {};
