import type { Provider } from '../../contract/types.js';
import type { Model, Node, Tensor } from '../../onnx/model.js';
import { defaultBindings, inferShapes } from '../../onnx/shape.js';
import { WebgpuLayout } from '../device-webgpu-layout.js';
import { applyBasic } from './basic.js';
import { GraphEditor } from './editor.js';
import { applyExtended } from './extended.js';
import { ChannelsLast } from './nhwc.js';
import { foldCasts, insertCasts } from './half.js';
import { BlockedLayout, fuseConvolutionSums } from './nchwc.js';
import { duplicateDequantizers, fuseQuantized, prepareQuantized } from './qdq.js';
import { cancelTransposes, pushTransposes, readShapesBeforeTransposes } from './transpose.js';

/** The graph the runtime executes. */
export interface RuntimeGraph {
  model: Pick<Model, 'graph' | 'opsets'>;
  /** In execution order. */
  nodes: Node[];
  /** In index order: those that rewrites made come after all others. */
  indexed: Node[];
  /** Constants that are left. */
  initializers: Map<string, Tensor>;
}

/**
 * Channels per block in the runtime's convolution layout: 16 on x64 with AVX-512, 8 with AVX2. The figure
 * only changes padding (few bytes unless channel counts are odd), so one value serves all.
 */
const channelBlock = 16;

/** Size of open dimensions nobody knows anything about, while the graph is rewritten: halved often, it stays whole. */
const plausibleSize = 256;

/** A size for every open dimension, so that structure can be worked out before anybody says how large inputs are. */
export function structuralDims(model: Pick<Model, 'graph'>): Record<string, number> {
  const { dims, assumed } = defaultBindings(model, 1);
  for (const name of assumed) if (dims[name] === 1) dims[name] = plausibleSize;
  return dims;
}

/**
 * Rewrites a model the way the runtime's optimizer (level `all`) does, as far as it changes what memory holds.
 * The model itself is left alone; weights are not read.
 *
 * @param disabled optimizers the session leaves out, by the runtime's names (`SessionLevers.disabledOptimizers`)
 */
export function lowerModel(
  model: Pick<Model, 'graph' | 'opsets'>,
  provider: Provider,
  disabled: readonly string[] = [],
): RuntimeGraph {
  const dims = structuralDims(model);
  const shapes = inferShapes(model, dims);
  const editor = new GraphEditor(model, shapes, (changed) => inferShapes(changed, dims));
  if (provider === 'cpu') duplicateDequantizers(editor);
  applyBasic(editor, shapes.constants);
  if (provider === 'cpu') prepareQuantized(editor);
  pushTransposes(editor);
  cancelTransposes(editor);
  if (provider === 'cpu') {
    insertCasts(editor);
    foldCasts(editor);
    fuseQuantized(editor);
  }
  applyExtended(editor, provider, new Set(disabled));
  readShapesBeforeTransposes(editor);
  if (provider === 'cpu') {
    new BlockedLayout(editor, channelBlock).apply();
    new ChannelsLast(editor).apply();
    fuseConvolutionSums(editor);
  }
  if (provider === 'webgpu') new WebgpuLayout(editor).apply();
  editor.dropUnused();
  const nodes = editor.ordered();
  const graph = { ...model.graph, nodes, initializers: editor.initializers };
  return { model: { graph, opsets: model.opsets }, nodes, indexed: editor.nodes(), initializers: editor.initializers };
}
