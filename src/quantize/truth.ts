import type { Dtype, Provider } from '../contract/types.js';
import type { WeightRole } from './sites.js';

/** How a quantized weight is written. `none`: it stays as it is. */
export type Encoding =
  | 'none'
  | 'float16'
  /** com.microsoft.MatMulNBits, weight-only blocks. */
  | 'MatMulNBits'
  /** com.microsoft.MatMulBnb4, codes of the NF4 table. */
  | 'MatMulBnb4'
  /** com.microsoft.GatherBlockQuantized. */
  | 'GatherBlockQuantized'
  /** int8 with one scale for each channel → DequantizeLinear → operator. */
  | 'DequantizeLinear'
  /** int4 in blocks → DequantizeLinear (opset 21) → operator. */
  | 'DequantizeLinear-blocks'
  /** DynamicQuantizeLinear → MatMulInteger → Cast → Mul. */
  | 'MatMulInteger'
  /** DynamicQuantizeLinear → ConvInteger → Cast → Mul. */
  | 'ConvInteger'
  /** com.microsoft.DynamicQuantizeLSTM, int8 activations quantized at run time. */
  | 'DynamicQuantizeLSTM'
  /** QuantizeLinear/DequantizeLinear around the operator with calibrated ranges. */
  | 'QDQ';

export interface Truth {
  encoding: Encoding;
  allowed: boolean;
  /** Why not, or what to know when allowed. */
  note?: string;
  needsSamples?: boolean;
  /** `session`: reproduced by a real session in test/engine/quantize; `documents`: from documentation, conservative. */
  evidence: 'session' | 'documents';
}

type Quantized = Exclude<Dtype, 'fp32'>;
type Table = Record<Quantized, Record<WeightRole, Truth>>;

const yes = (encoding: Encoding, evidence: Truth['evidence'], note?: string): Truth => ({
  encoding,
  allowed: true,
  evidence,
  ...(note === undefined ? {} : { note }),
});
const no = (note: string, evidence: Truth['evidence'] = 'session'): Truth => ({
  encoding: 'none',
  allowed: false,
  note,
  evidence,
});
const everywhere = (truth: Truth): Record<WeightRole, Truth> => ({
  matmul: truth,
  'matmul-left': truth,
  'matmul-stack': truth,
  gemm: truth,
  conv: truth,
  'conv-transpose': truth,
  gather: truth,
  lstm: truth,
  other: truth,
});

const noKernel = no('its operator has no quantized form; it computes with the full-precision weight', 'documents');
const noInt4 = no('its operator has no 4-bit form', 'documents');
const noInt2 = no('its operator has no 2-bit form', 'documents');
const noTable = no('only matrix products look codes up in a table', 'documents');
const noInteger = no('integer products take the weight as one matrix on the right', 'documents');
const turned = 'what it multiplies and the result are transposed';
const tableEachRun = 'stored small, unpacked for the moment its operator runs, which takes several times as long';
const unpackedEachRun = 'stored small, unpacked for the moment its operator runs';

const cpu: Table = {
  fp16: everywhere(no('the CPU computes float16 in float32, so the weight would be held at full size')),
  int8: {
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    'matmul-stack': yes('DequantizeLinear', 'session', unpackedEachRun),
    gemm: yes('MatMulNBits', 'session'),
    conv: yes('DequantizeLinear', 'session', unpackedEachRun),
    'conv-transpose': yes('DequantizeLinear', 'session', unpackedEachRun),
    gather: yes('GatherBlockQuantized', 'session'),
    lstm: yes('DequantizeLinear', 'session', unpackedEachRun),
    other: noKernel,
  },
  int4: {
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    'matmul-stack': yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    gemm: yes('MatMulNBits', 'session'),
    conv: yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    'conv-transpose': yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    gather: yes('GatherBlockQuantized', 'session'),
    lstm: noInt4,
    other: noKernel,
  },
  'int8-dynamic': {
    matmul: yes('MatMulInteger', 'session'),
    'matmul-left': noInteger,
    'matmul-stack': noInteger,
    gemm: yes('MatMulInteger', 'session'),
    conv: yes('ConvInteger', 'session'),
    'conv-transpose': no('there is no integer ConvTranspose', 'documents'),
    gather: yes('GatherBlockQuantized', 'session', 'rows are looked up, nothing is computed: 8-bit blocks'),
    lstm: yes('DynamicQuantizeLSTM', 'session'),
    other: noKernel,
  },
  'int8-static': {
    matmul: { ...yes('QDQ', 'session'), needsSamples: true },
    'matmul-left': noInteger,
    'matmul-stack': noInteger,
    gemm: { ...yes('QDQ', 'session'), needsSamples: true },
    conv: { ...yes('QDQ', 'session'), needsSamples: true },
    'conv-transpose': no('onnxruntime has no integer ConvTranspose; Q/DQ around it would only add work', 'documents'),
    gather: yes('GatherBlockQuantized', 'session', 'rows are looked up, nothing is computed: 8-bit blocks'),
    lstm: no('recurrent weights are offered as int8 only', 'documents'),
    other: noKernel,
  },
  nf4: {
    ...everywhere(noTable),
    matmul: yes('MatMulBnb4', 'session', tableEachRun),
    'matmul-left': yes('MatMulBnb4', 'session', tableEachRun),
    gemm: yes('MatMulBnb4', 'session', tableEachRun),
    other: noKernel,
  },
  int2: {
    ...everywhere(noInt2),
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    gemm: yes('MatMulNBits', 'session'),
    gather: yes('GatherBlockQuantized', 'session'),
    other: noKernel,
  },
};

const fallsToCpu = no('integer arithmetic runs on the CPU under this provider, with copies both ways');

const webgpu: Table = {
  fp16: everywhere(yes('float16', 'documents', 'needs a device with shader-f16')),
  int8: {
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    'matmul-stack': yes('DequantizeLinear', 'session', unpackedEachRun),
    gemm: yes('MatMulNBits', 'session'),
    conv: yes('DequantizeLinear', 'session', unpackedEachRun),
    'conv-transpose': yes('DequantizeLinear', 'session', unpackedEachRun),
    gather: yes('GatherBlockQuantized', 'session'),
    lstm: no('recurrent operators run on the CPU under this provider', 'documents'),
    other: noKernel,
  },
  int4: {
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    'matmul-stack': yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    gemm: yes('MatMulNBits', 'session'),
    conv: yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    'conv-transpose': yes('DequantizeLinear-blocks', 'session', unpackedEachRun),
    gather: yes('GatherBlockQuantized', 'session'),
    lstm: noInt4,
    other: noKernel,
  },
  'int8-dynamic': everywhere(fallsToCpu),
  'int8-static': everywhere(fallsToCpu),
  nf4: everywhere(no('codes of a table are looked up on the CPU under this provider, with copies both ways')),
  int2: {
    ...everywhere(noInt2),
    matmul: yes('MatMulNBits', 'session'),
    'matmul-left': yes('MatMulNBits', 'session', turned),
    gemm: yes('MatMulNBits', 'session'),
    gather: yes('GatherBlockQuantized', 'session'),
    other: noKernel,
  },
};

const unconfirmed = no('not confirmed on this provider', 'documents');

const cuda: Table = {
  fp16: everywhere(yes('float16', 'documents')),
  int8: {
    matmul: yes('MatMulNBits', 'documents'),
    'matmul-left': yes('MatMulNBits', 'documents', turned),
    'matmul-stack': yes('DequantizeLinear', 'documents', unpackedEachRun),
    gemm: yes('MatMulNBits', 'documents'),
    conv: yes('DequantizeLinear', 'documents', unpackedEachRun),
    'conv-transpose': yes('DequantizeLinear', 'documents', unpackedEachRun),
    gather: yes('GatherBlockQuantized', 'documents'),
    lstm: no('not confirmed on this provider', 'documents'),
    other: noKernel,
  },
  int4: {
    matmul: yes('MatMulNBits', 'documents'),
    'matmul-left': yes('MatMulNBits', 'documents', turned),
    'matmul-stack': no('not confirmed on this provider', 'documents'),
    gemm: yes('MatMulNBits', 'documents'),
    conv: no('not confirmed on this provider', 'documents'),
    'conv-transpose': no('not confirmed on this provider', 'documents'),
    gather: yes('GatherBlockQuantized', 'documents'),
    lstm: noInt4,
    other: noKernel,
  },
  'int8-dynamic': everywhere(
    no('activations are quantized on the CPU under this provider, with copies both ways', 'documents'),
  ),
  'int8-static': everywhere(
    no('this provider unpacks Q/DQ models to full precision; only TensorRT would not', 'documents'),
  ),
  nf4: {
    ...everywhere(noTable),
    matmul: yes('MatMulBnb4', 'documents'),
    'matmul-left': unconfirmed,
    gemm: yes('MatMulBnb4', 'documents'),
    other: noKernel,
  },
  int2: {
    ...everywhere(noInt2),
    matmul: unconfirmed,
    'matmul-left': unconfirmed,
    gemm: unconfirmed,
    gather: unconfirmed,
  },
};

const dml: Table = {
  fp16: everywhere(yes('float16', 'documents')),
  int8: { ...everywhere(unconfirmed), other: noKernel },
  int4: {
    ...everywhere(unconfirmed),
    matmul: yes('MatMulNBits', 'documents'),
    'matmul-left': yes('MatMulNBits', 'documents', turned),
    'matmul-stack': unconfirmed,
    gemm: yes('MatMulNBits', 'documents'),
    other: noKernel,
  },
  'int8-dynamic': everywhere(unconfirmed),
  'int8-static': everywhere(unconfirmed),
  nf4: everywhere(unconfirmed),
  int2: everywhere(unconfirmed),
};

const notCoreml = no('Core ML does not take this operator, it would run on the CPU', 'documents');

const coreml: Table = {
  fp16: everywhere(yes('float16', 'documents', 'Core ML computes in float16 either way')),
  int8: everywhere(notCoreml),
  int4: everywhere(notCoreml),
  'int8-dynamic': everywhere(notCoreml),
  'int8-static': everywhere(notCoreml),
  nf4: everywhere(notCoreml),
  int2: everywhere(notCoreml),
};

/**
 * The table of truth: which number format of which operator really lowers peak memory on which execution
 * provider of onnxruntime 1.30, and how it is written. Rows marked `session` are reproduced by
 * test/engine/quantize.
 */
export const truth: Record<Provider, Table> = { cpu, webgpu, cuda, dml, coreml };

/** What to try when a format is not possible for a weight: wider, same or less work at run time. */
export const fallbacks: Record<Quantized, readonly Quantized[]> = {
  int2: ['int2', 'int4', 'int8'],
  nf4: ['nf4', 'int4', 'int8'],
  int4: ['int4', 'int8'],
  int8: ['int8'],
  'int8-dynamic': ['int8-dynamic', 'int8'],
  'int8-static': ['int8-static', 'int8'],
  fp16: ['fp16'],
};
