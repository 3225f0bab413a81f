import type { Model, Node, Tensor, ValueInfo } from './model.js';

export interface NewModel {
  name: string;
  /** Version of the standard operators. */
  opset: number;
  nodes: Node[];
  weights?: Iterable<Tensor>;
  inputs: ValueInfo[];
  outputs: ValueInfo[];
  producerName?: string;
}

/** A model made in memory, of standard operators alone (IR version 8). */
export function newModel({
  name,
  opset,
  nodes,
  weights = [],
  inputs,
  outputs,
  producerName = 'snug',
}: NewModel): Model {
  return {
    irVersion: 8,
    producerName,
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([['', opset]]),
    graph: {
      name,
      nodes,
      initializers: new Map([...weights].map((tensor) => [tensor.name, tensor])),
      sparseInitializers: [],
      inputs,
      outputs,
      valueInfo: new Map(),
    },
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}
