import type { GradientRules } from '../differentiate.js';
import { contractionGradients } from './contraction.js';
import { convolutionGradients } from './convolution.js';
import { einsumGradients } from './einsum.js';
import { elementwiseGradients } from './elementwise.js';
import { functionGradients } from './functions.js';
import { movementGradients } from './movement.js';
import { normalizationGradients } from './normalization.js';
import { poolingGradients } from './pooling.js';
import { quantizationGradients } from './quantization.js';
import { reductionGradients } from './reduction.js';
import { resizeGradients } from './resize.js';
import { scatterGradients } from './scatter.js';

/** Gradient rules by operator; operators of other domains are called `domain:Operator`. */
export const gradientRules: GradientRules = {
  ...elementwiseGradients,
  ...functionGradients,
  ...contractionGradients,
  ...einsumGradients,
  ...convolutionGradients,
  ...poolingGradients,
  ...reductionGradients,
  ...normalizationGradients,
  ...movementGradients,
  ...scatterGradients,
  ...quantizationGradients,
  ...resizeGradients,
};
