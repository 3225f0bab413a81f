/**
 * Graphs of the size and operator style of well-known networks, with random weights from a seed; for benchmarks and
 * tests that need real structure without a download.
 *
 * ```ts
 * const model = graphs['resnet50']();             // full size, a few milliseconds: weights are computed when read
 * writeModel(model, 'resnet50.onnx');              // streams them to the file
 * const small = graphs['vit-b']({ scale: 1 / 6, layers: 2 }); // for unit tests
 * const tiny = gpt2({ scale: 1 / 12, layers: 1, vocabulary: 64 });
 * ```
 *
 * `scale` multiplies the widths: convolutional nets take powers of two from 1/8 on, transformers twelfths (one head of
 * 64 each). Symbols of the inputs: `batch`; U-Net `height`, `width` (multiples of 16); BERT and GPT-2 `sequence`;
 * GPT-2 `past_sequence` and `past_sequence + sequence`.
 */
import type { Model } from '../../../src/onnx/model.js';
import { gpt2 } from './decoder.js';
import { bertBase, vitB16 } from './transformers.js';
import { mobilenetV2, resnet50, unet } from './vision.js';

export { GraphBuilder } from './builder.js';
export { bertBase, gpt2, mobilenetV2, resnet50, unet, vitB16 };

export type GraphName = 'resnet50' | 'mobilenetv2' | 'unet' | 'vit-b' | 'bert-base' | 'gpt2';

/** Every builder by its name; full size unless told otherwise. */
export const graphs: Readonly<
  Record<GraphName, (options?: { scale?: number; layers?: number; seed?: number }) => Model>
> = { resnet50, mobilenetv2: mobilenetV2, unet, 'vit-b': vitB16, 'bert-base': bertBase, gpt2 };
