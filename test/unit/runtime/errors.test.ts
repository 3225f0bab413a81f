import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../src/contract/errors.js';
import { classifyRuntimeError, exitError, providerError, type RuntimePhase } from '../../../src/runtime/errors.js';

/** Texts of onnxruntime 1.30 and its providers (paths shortened). */
const table: [RuntimePhase, ErrorCode, string, string?][] = [
  ['run', 'E_OUT_OF_MEMORY', 'Non-zero status code returned while running Expand node. bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer of size 16000000000'],
  ['load', 'E_OUT_OF_MEMORY', 'std::bad_alloc'],
  ['run', 'E_OUT_OF_MEMORY', 'WebGPU device error(3): vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY'],
  ['run', 'E_OUT_OF_MEMORY', '[Invalid Buffer] is invalid due to a previous error.'],
  ['run', 'E_OUT_OF_MEMORY', 'CUDA failure 2: out of memory ; GPU=0'],
  ['run', 'E_OUT_OF_MEMORY', 'CUDNN_STATUS_ALLOC_FAILED'],
  ['run', 'E_OUT_OF_MEMORY', 'DmlCommittedResourceAllocator.cpp(22) Exception(1) 887A0005 The GPU device instance has been suspended: 0x887A0005'],
  ['run', 'E_OUT_OF_MEMORY', 'Exception: 8007000E Not enough memory resources are available: 0x8007000E'],
  ['load', 'E_UNKNOWN_OPERATOR', 'Fatal error: ai.acme:FancyOp(-1) is not a registered function/op', 'ai.acme:FancyOp'],
  ['load', 'E_UNKNOWN_OPERATOR', 'This is an invalid model. In Node, ("n", FancyOp, "", -1) : ("x": tensor(float),) -> ("y",) , Error No Op registered for FancyOp with domain_version of 13', 'FancyOp'],
  ['load', 'E_UNKNOWN_OPERATOR', "Could not find an implementation for QMoE(1) node with name 'moe'", 'QMoE'],
  ['load', 'E_OPSET_TOO_NEW', 'ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 99 is under development and support for this is limited.'],
  ['load', 'E_OPSET_TOO_NEW', 'Unsupported model IR version: 99, max supported IR version: 13'],
  ['load', 'E_MODEL_REJECTED', 'Load model from x.onnx failed:Protobuf parsing failed.'],
  ['load', 'E_MODEL_REJECTED', 'This is an invalid model. Error: the graph is not acyclic.'],
  ['load', 'E_NOT_FOUND', "Load model from /none.onnx failed:Load model /none.onnx failed. File doesn't exist"],
  ['load', 'E_EXTERNAL_MISSING', 'External data path does not exist: "/m/w.bin"'],
  ['load', 'E_EXTERNAL_OUTSIDE', 'External data path validation failed for initializer: w. External data path escapes model directory.'],
  ['load', 'E_PROVIDER', 'Failed to get a WebGPU adapter: No supported adapters'],
  ['load', 'E_PROVIDER', 'OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library'],
  ['load', 'E_PROVIDER', 'no available backend found. ERR: [dml] backend not found.'],
  ['run', 'E_DATA_SHAPE', 'Got invalid dimensions for input: input for the following indices index: 1 Got: 3 Expected: 1', 'input'],
  ['run', 'E_DATA_SHAPE', 'Invalid rank for input: input Got: 2 Expected: 4 Please fix either the inputs/outputs or the model.', 'input'],
  ['run', 'E_DATA_SHAPE', "input 'input' is missing in 'feeds'.", 'input'],
  ['run', 'E_DATA_SHAPE', 'Unexpected input data type. Actual: (tensor(double)) , expected: (tensor(float))'],
  ['run', 'E_RUN_FAILED', 'Non-zero status code returned while running Reshape node. The input tensor cannot be reshaped'],
]; // prettier-ignore

describe('classifyRuntimeError', () => {
  it.each(table)('%s %s: %s', (phase, code, text, named) => {
    const error = classifyRuntimeError(text, phase);
    expect(error.code).toBe(code);
    expect(error.details).toBe(text);
    expect(error.message).not.toContain('Status');
    expect(error.action).not.toBe('');
    if (named !== undefined) expect(Object.values(error.params)).toContain(named);
  });
});

describe('exitError', () => {
  const exit = { code: null, signal: null, stderr: '', memoryKill: false };
  it.each([
    ['E_ENGINE_KILLED', { ...exit, signal: 'SIGKILL' }],
    ['E_ENGINE_KILLED', { ...exit, signal: 'SIGTERM' }],
    ['E_OUT_OF_MEMORY', { ...exit, signal: 'SIGKILL', memoryKill: true }],
    ['E_OUT_OF_MEMORY', { ...exit, signal: 'SIGABRT', stderr: "terminate called after throwing 'std::bad_alloc'" }],
    ['E_ENGINE_CRASHED', { ...exit, signal: 'SIGSEGV', memoryKill: true }],
    ['E_ENGINE_CRASHED', { ...exit, signal: 'SIGABRT', stderr: 'assertion failed' }],
    ['E_ENGINE_CRASHED', { ...exit, signal: 'SIGTRAP' }],
    ['E_ENGINE_CRASHED', { ...exit, signal: 'SIGBUS' }],
    ['E_ENGINE_CRASHED', { ...exit, code: 134 }],
    ['E_ENGINE_CRASHED', { ...exit, code: 0 }],
  ])('%s', (code, how) => {
    expect(exitError(how).code).toBe(code);
  });
});

it('says how to get CUDA', () => {
  const error = providerError('cuda', 'raw');
  expect(error.code).toBe('E_PROVIDER');
  expect(error.action).toContain('npm run setup:cuda');
});
