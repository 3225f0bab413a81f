import type { Model } from '../onnx/model.js';
import { defaultBindings, inferShapes, ShapeFormulas, type ShapeResult } from '../onnx/shape.js';
import type { RuntimeGraph } from './rewrite/lower.js';

type Bindings = Readonly<Record<string, number>>;

/** Sizes of a graph's values, with the bindings they were worked out for. */
export interface GraphSizes {
  readonly dims: Record<string, number>;
  readonly assumed: string[];
  readonly shapes: ShapeResult;
}

/** What is remembered for one choice of the dimensions other than the batch. */
interface Known {
  readonly key: string;
  readonly batch: number;
  readonly shapes: ShapeResult;
  readonly formulas: ShapeFormulas | null;
}

/**
 * Works out the sizes of the values of a lowered graph. Once they are known for two batches, those for others are read
 * off the formulas both agree on, unless there are none.
 */
export class BatchSizes {
  private known: Known | null = null;

  /** @param ahead infer a second batch at once, so that the next one asked for is quick */
  constructor(
    private readonly model: Model,
    private readonly graph: RuntimeGraph['model'],
    private readonly ahead: boolean,
  ) {}

  /** @throws SnugError E_DIMENSION when a size is no whole number. */
  sizes(batch: number, given: Bindings): GraphSizes {
    const { dims, assumed } = defaultBindings(this.model, batch, given);
    const key = JSON.stringify(Object.entries(given).sort());
    if (this.known?.key !== key) this.known = this.learn(key, batch, given, dims);
    const { shapes, formulas } = this.known;
    if (batch === this.known.batch) return { dims, assumed, shapes };
    // A batch of one may lose its dimension (Squeeze), which a formula for larger ones does not tell.
    const quick = batch > 1 && Number.isInteger(batch) ? formulas?.evaluate(dims) : undefined;
    return { dims, assumed, shapes: quick ? { ...shapes, shapes: quick } : inferShapes(this.graph, dims) };
  }

  private learn(key: string, batch: number, given: Bindings, dims: Record<string, number>): Known {
    const shapes = inferShapes(this.graph, dims);
    if (!this.ahead) return { key, batch, shapes, formulas: null };
    const other = defaultBindings(this.model, 3 * batch + 4, given).dims;
    const formulas = ShapeFormulas.agreedBy(
      { bindings: dims, result: shapes },
      { bindings: other, result: inferShapes(this.graph, other) },
    );
    return { key, batch, shapes, formulas };
  }
}
