import { attentionRules } from './shape-ops-attention.js';
import { classicRules } from './shape-ops-classic.js';
import { contractionRules } from './shape-ops-contraction.js';
import { elementwiseRules } from './shape-ops-elementwise.js';
import { fillRules } from './shape-ops-fill.js';
import { imageRules } from './shape-ops-image.js';
import { layoutRules } from './shape-ops-layout.js';
import { quantizedRules } from './shape-ops-quantized.js';
import { selectionRules } from './shape-ops-selection.js';
import { sequenceRules } from './shape-ops-sequence.js';
import { signalRules } from './shape-ops-signal.js';
import { windowRules, withChannelsLast } from './shape-ops-window.js';
import type { ShapeRule, ShapeRules } from './shape-types.js';

const rules: ShapeRules = {
  ...elementwiseRules,
  ...layoutRules,
  ...fillRules,
  ...contractionRules,
  ...windowRules,
  ...quantizedRules,
  ...attentionRules,
  ...imageRules,
  ...selectionRules,
  ...sequenceRules,
  ...signalRules,
  ...classicRules,
};

/** Operators whose bodies are inferred (see shape-control.ts). */
export const controlOperators: ReadonlySet<string> = new Set(['If', 'Loop', 'Scan', 'SequenceMap']);

const channelsLastDomain = 'com.ms.internal.nhwc';

/** The rule of an operator, undefined when there is none. Control flow and Constant have none of this kind. */
export function shapeRule(domain: string, opType: string): ShapeRule | undefined {
  if (domain === '' || domain === 'ai.onnx') return rules[opType];
  if (domain === channelsLastDomain) {
    const rule = rules[opType] ?? rules[`com.microsoft:${opType}`];
    return rule && withChannelsLast(rule);
  }
  return rules[`${domain}:${opType}`];
}

/** Whether the shape of an operator's outputs can be inferred. */
export function hasShapeRule(domain: string, opType: string): boolean {
  const standard = domain === '' || domain === 'ai.onnx';
  if (standard && (opType === 'Constant' || controlOperators.has(opType))) return true;
  return shapeRule(domain, opType) !== undefined;
}
