import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { knownOperators, maxIrVersion, maxOpset } from '../../../src/onnx/operators.js';
import { serializeModel } from '../../../src/onnx/write.js';

function single(opType: string, domain: string, opset: number, irVersion = 8): Model {
  return {
    irVersion,
    producerName: '',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([
      ['', domain === '' ? opset : 21],
      [domain, opset],
    ]),
    graph: {
      name: 'g',
      nodes: [makeNode(opType, ['x'], ['y'], {}, { domain })],
      initializers: new Map(),
      sparseInitializers: [],
      inputs: [{ name: 'x', dataType: 1, dims: [1] }],
      outputs: [{ name: 'y', dataType: 1, dims: null }],
      valueInfo: new Map(),
    },
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}

/** What onnxruntime says to a model; '' when it loads. */
async function answer(model: Model): Promise<string> {
  try {
    const session = await ort.InferenceSession.create(serializeModel(model), { logSeverityLevel: 4 });
    await session.release();
    return '';
  } catch (error) {
    return String(error);
  }
}

const unknown = /No Op registered|not a registered function|is deprecated/;

describe('operator table against onnxruntime', () => {
  it('knows only operators that the runtime knows, from the opset it says', async () => {
    const wrong: string[] = [];
    for (const { domain, opType, since } of knownOperators()) {
      if (unknown.test(await answer(single(opType, domain, since)))) wrong.push(`${domain} ${opType} ${since}`);
    }
    expect(wrong).toEqual([]);
    expect(unknown.test(await answer(single('NoSuchOperator', '', 21)))).toBe(true);
  });

  it('does not call an operator known before its opset', async () => {
    const wrong: string[] = [];
    for (const { domain, opType, since } of knownOperators()) {
      // Opset 7 is the oldest that onnxruntime promises to tell apart.
      if (domain !== '' || since < 8) continue;
      if (!unknown.test(await answer(single(opType, domain, since - 1)))) wrong.push(`${opType} ${since}`);
    }
    expect(wrong).toEqual([]);
  });

  it('has the highest opset and IR version the runtime loads', async () => {
    const opset = maxOpset.get('') as number;
    expect(await answer(single('Relu', '', opset, maxIrVersion))).toBe('');
    expect(await answer(single('Relu', '', opset + 1))).not.toBe('');
    expect(await answer(single('Relu', '', opset, maxIrVersion + 1))).not.toBe('');
    const classic = maxOpset.get('ai.onnx.ml') as number;
    expect(await answer(single('Binarizer', 'ai.onnx.ml', classic + 1))).not.toBe('');
  });
});
