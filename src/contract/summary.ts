/** What is in a model file. */

export interface ValueSummary {
  name: string;
  /** ONNX element type in words: `float32`, `int64`, … */
  dtype: string;
  /** Fixed size, or the symbol's name, or null when unknown. */
  dims: (number | string | null)[];
  /** The model does not say how many axes it has; `dims` is empty then. */
  anyShape?: boolean;
}

export interface ModelSummary {
  name: string;
  path: string;
  /** File plus external data. */
  fileBytes: number;
  inputs: ValueSummary[];
  outputs: ValueSummary[];
  opset: Record<string, number>;
  irVersion: number;
  producer: string;
  parameters: number;
  weightBytes: number;
  /** Operator type (domain-qualified when not ai.onnx) → how many nodes, subgraphs included. */
  operators: Record<string, number>;
  /** Dimensions of the inputs that need a value, e.g. ["batch", "sequence"]; one without a name is `input.axis`. */
  dimensions: string[];
  /** The dimension Snug takes as the batch, if any. */
  batchDimension: string | null;
  /** Words for a person: `image classifier`, `text decoder with KV cache`, `network`. */
  kind: string;
  externalFiles: { name: string; bytes: number }[];
  warnings: string[];
}
