import { feedInputs } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';

/** What quantizing changed in a model besides its weights, in English sentences. */
export function otherChanges(before: Model, after: Model): string[] {
  const notes: string[] = [];
  const [old, raised] = [before, after].map(({ opsets }) => opsets.get('') ?? 0) as [number, number];
  if (raised > old) {
    notes.push(`The model was raised from opset ${old} to ${raised}, which its number formats need.`);
  }
  // Up to IR version 3 they were constants all the same.
  if (before.irVersion >= 4 && feedInputs(before.graph).length === after.graph.inputs.length) {
    const listed = before.graph.inputs.length - after.graph.inputs.length;
    if (listed > 0)
      notes.push(`${listed} constants that the file listed as inputs cannot be given from outside any more.`);
  }
  return notes;
}
