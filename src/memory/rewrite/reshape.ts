import { getInts } from '../../onnx/attribute.js';
import type { Node } from '../../onnx/model.js';
import { is, type GraphEditor } from './editor.js';

/** Node `operator` that makes `value`, if it is one. */
function made(editor: GraphEditor, value: string | undefined, ...operators: string[]): Node | undefined {
  const node = editor.producer(value);
  return is(node, ...operators) ? node : undefined;
}

function axesOf(editor: GraphEditor, node: Node): readonly number[] | undefined {
  return getInts(node, 'axes', undefined) ?? editor.numbers(node.inputs[1]);
}

/** The axis that Shape → Gather → Unsqueeze takes out of a value whose size there is that of `root`. */
function copiedAxis(editor: GraphEditor, part: string, root: string): number | null {
  const unsqueeze = made(editor, part, 'Unsqueeze');
  const gather = unsqueeze && made(editor, unsqueeze.inputs[0], 'Gather');
  const shape = gather && made(editor, gather.inputs[0], 'Shape');
  const index = gather && editor.numbers(gather.inputs[1]);
  if (!unsqueeze || !shape || index?.length !== 1 || axesOf(editor, unsqueeze)?.join() !== '0') return null;
  const [axis = -1] = index;
  const source = shape.inputs[0];
  if (source === root) return axis;
  const size = editor.dims(source)?.[axis];
  return size !== null && size !== undefined && size === editor.dims(root)?.[axis] ? axis : null;
}

/** Whether a part of a computed shape is known to be one number. */
function isOneNumber(editor: GraphEditor, part: string): boolean {
  const dims = editor.dims(part);
  return dims !== undefined && dims.every((size) => size === 1);
}

/** Removes a node nobody needs any more, and then what fed only it. */
function removeUnused(editor: GraphEditor, value: string): void {
  const node = editor.producer(value);
  if (!node || node.outputs.some((output) => editor.outputs.has(output) || editor.consumers(output).length > 0)) return;
  editor.remove(node);
  for (const input of node.inputs) removeUnused(editor, input);
}

/**
 * A Reshape whose target joins sizes of its own input with constants gets a constant target: 0 for a size that is
 * copied, -1 for the one other size that is computed (the runtime's ReshapeFusion, level `basic`).
 * @returns whether any did: what is known of sizes after it may then let others follow.
 */
export function fuseReshapes(editor: GraphEditor): boolean {
  let any = false;
  for (const reshape of editor.ordered()) {
    if (!is(reshape, 'Reshape')) continue;
    const [root = '', target = ''] = reshape.inputs;
    const concat = made(editor, target, 'Concat');
    if (!concat || editor.onlyConsumer(target) !== reshape) continue;
    const sizes: number[] = [];
    const known = concat.inputs.every((part) => {
      const numbers = editor.isConstant(part) ? editor.numbers(part) : undefined;
      if (numbers) sizes.push(...numbers);
      else if (copiedAxis(editor, part, root) === sizes.length) sizes.push(0);
      else if (isOneNumber(editor, part)) sizes.push(-1);
      else return false;
      return true;
    });
    if (!known || sizes.filter((size) => size === -1).length > 1) continue;
    editor.remove(concat);
    editor.integers(target, sizes);
    for (const part of concat.inputs) removeUnused(editor, part);
    any = true;
  }
  return any;
}
