import type { GradientRules } from '../differentiate.js';
import { contractionGradients } from './contraction.js';
import { convolutionGradients } from './convolution.js';
import { elementwiseGradients } from './elementwise.js';
import { movementGradients } from './movement.js';
import { normalizationGradients } from './normalization.js';
import { poolingGradients } from './pooling.js';
import { quantizationGradients } from './quantization.js';
import { reductionGradients } from './reduction.js';
import { resizeGradients } from './resize.js';

/** Gradient rules by operator; operators of other domains are called `domain:Operator`. */
export const gradientRules: GradientRules = {
  ...elementwiseGradients,
  ...contractionGradients,
  ...convolutionGradients,
  ...poolingGradients,
  ...reductionGradients,
  ...normalizationGradients,
  ...movementGradients,
  ...quantizationGradients,
  ...resizeGradients,
};
