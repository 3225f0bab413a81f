import type { Provider } from '../../contract/types.js';
import type { Model, Node, Tensor } from '../../onnx/model.js';
import { defaultBindings, inferShapes } from '../../onnx/shape.js';
import { WebgpuLayout } from '../device-webgpu-layout.js';
import { applyBasic } from './basic.js';
import { GraphEditor } from './editor.js';
import { applyExtended } from './extended.js';
import { ChannelsLast } from './nhwc.js';
import { widenHalf } from './half.js';
import { BlockedLayout, fuseConvolutionSums } from './nchwc.js';
import { duplicateDequantizers, fuseQuantized, prepareQuantized } from './qdq.js';
import { pushTransposes } from './transpose.js';

/** The graph the runtime executes: nodes in execution order and the constants that are left. */
export interface RuntimeGraph {
  model: Pick<Model, 'graph' | 'opsets'>;
  nodes: Node[];
  initializers: Map<string, Tensor>;
}

/**
 * Channels per block in the runtime's convolution layout: 16 on x64 with AVX-512, 8 with AVX2. The figure
 * only changes padding (few bytes unless channel counts are odd), so one value serves all.
 */
const channelBlock = 16;

/**
 * Rewrites a model the way the runtime's optimizer (level `all`) does, as far as it changes what memory holds.
 * The model itself is left alone; weights are not read.
 */
export function lowerModel(original: Pick<Model, 'graph' | 'opsets'>, provider: Provider): RuntimeGraph {
  const model = provider === 'cpu' ? widenHalf(original) : original;
  const { dims } = defaultBindings(model, 1);
  const shapes = inferShapes(model, dims);
  const editor = new GraphEditor(model, shapes);
  if (provider === 'cpu') duplicateDequantizers(editor);
  applyBasic(editor, shapes.constants);
  if (provider === 'cpu') prepareQuantized(editor);
  pushTransposes(editor);
  if (provider === 'cpu') fuseQuantized(editor);
  applyExtended(editor, provider);
  if (provider === 'cpu') {
    new BlockedLayout(editor, channelBlock).apply();
    new ChannelsLast(editor).apply();
    fuseConvolutionSums(editor);
  }
  if (provider === 'webgpu') new WebgpuLayout(editor).apply();
  editor.dropUnused();
  const nodes = editor.ordered();
  const graph = { ...model.graph, nodes, initializers: editor.initializers };
  return { model: { graph, opsets: model.opsets }, nodes, initializers: editor.initializers };
}
