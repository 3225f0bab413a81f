import { SnugError, type ErrorCode } from '../contract/errors.js';

export type RuntimePhase = 'load' | 'run';

/** How the onnxruntime process ended. */
export interface ProcessExit {
  code: number | null;
  signal: string | null;
  /** Last part of what it wrote on stderr. */
  stderr: string;
  /** The system's out-of-memory killer ended a process since this one was started. */
  memoryKill: boolean;
}

interface Rule {
  code: ErrorCode;
  pattern: RegExp;
  /** Only in this phase. */
  phase?: RuntimePhase;
  message: (match: RegExpExecArray, phase: RuntimePhase) => string;
  action: string;
  params?: (match: RegExpExecArray) => Record<string, string | number>;
}

const providerNames: Record<string, string> = {
  webgpu: 'WebGPU',
  cuda: 'CUDA',
  dml: 'DirectML',
  coreml: 'CoreML',
};

/**
 * First match wins. The order matters: memory first (its texts are wrapped in many others), then what names
 * its cause, then what only names the stage.
 */
const rules: Rule[] = [
  {
    code: 'E_OUT_OF_MEMORY',
    pattern:
      /bad[_ ]alloc|failed to allocate memory|bfcarena|bfc_arena|allocation of \d+ bytes|vk_error_out_of_(?:device|host)_memory|vkallocatememory|out of (?:device |host |video )?memory|outofmemory|cuda(?:_error_| error:? ?)out_of_memory|cudaerrormemoryallocation|cublas_status_alloc_failed|cudnn_status_alloc_failed|dxgi_error_device_removed|0x887a0005|e_outofmemory|0x8007000e|not enough memory|array buffer allocation failed|invalid array length|\[invalid buffer\]/i,
    message: (_match, phase) =>
      phase === 'load' ? 'Memory ran out while the model was loaded.' : 'Memory ran out while the model ran.',
    action: 'Use a smaller batch, a smaller budget, or close other programs that use the memory.',
  },
  {
    code: 'E_PROVIDER',
    pattern:
      /(?<cuda>appendexecutionprovider_cuda|libonnxruntime_providers_(?:shared|cuda)|libcud\w+|libcublas\w*)|(?<webgpu>failed to get a webgpu (?:adapter|device)|webgpu.*not (?:supported|available))|backend not found|no available backend|execution provider .* is not (?:supported|enabled|available)/i,
    message: (match) => {
      const groups = match.groups ?? {};
      const name = groups.cuda ? 'CUDA' : groups.webgpu ? 'WebGPU' : 'The asked execution provider';
      return groups.cuda
        ? 'CUDA support is not installed, or its libraries cannot be loaded.'
        : `${name} is not available on this computer.`;
    },
    action:
      'For CUDA run "npm run setup:cuda" and install the NVIDIA driver; for WebGPU install a current graphics driver (on Linux with Vulkan). Or choose the provider cpu.',
  },
  {
    code: 'E_OPSET_TOO_NEW',
    pattern:
      /opset (?<opset>\d+) is under development|only guarantees? support for models stamped with official released onnx opset|unsupported model ir version|unknown model file format version/i,
    message: () => 'The model uses a newer version of ONNX than this onnxruntime knows.',
    action: 'Export the model again with an older opset, or update Snug.',
  },
  {
    code: 'E_UNKNOWN_OPERATOR',
    pattern:
      /could not find an implementation for (?<kernel>[\w.]+(?:\(\d+\))?)|no op registered for (?<unregistered>[\w.]+)|(?:op with name|op) \(?[\w./: -]*\)? ?(?:and type )?\((?<typed>[\w.]+)\)[^\n]*is not a registered function\/op|(?<plain>[\w.]+(?::[\w.]+)?)(?:\(-?\d+\))? is not a registered function\/op|fatal error: (?<fatal>[\w.]*:?[\w.]+)\(/i,
    message: (match) => `The runtime has no kernel for the operator ${operatorOf(match)}.`,
    action: 'Export the model without this operator, or replace it by standard ones.',
    params: (match) => ({ operator: operatorOf(match) }),
  },
  {
    code: 'E_EXTERNAL_MISSING',
    phase: 'load',
    pattern:
      /external data (?:path|file)[^\n]*(?:does not exist|not found)|filesystem error: [^\n]*external|cannot open external/i,
    message: () => 'The file with the weights of this model is missing.',
    action: 'Put the external data file into the folder of the model.',
  },
  {
    code: 'E_EXTERNAL_OUTSIDE',
    phase: 'load',
    pattern: /external data path[^\n]*(?:escapes|outside)|escapes (?:the )?model directory/i,
    message: () => 'The model asks for a weight file outside its own folder.',
    action: 'Put all files of the model into one folder and export it again.',
  },
  {
    code: 'E_NOT_FOUND',
    phase: 'load',
    pattern: /file doesn't exist|no_?such_?file/i,
    message: () => 'The model file is missing.',
    action: 'Check the path of the model.',
  },
  {
    code: 'E_DATA_SHAPE',
    phase: 'run',
    pattern:
      /got invalid dimensions for input: (?<shape>\S+)|invalid rank for input: (?<rank>\S+)|unexpected input data type|input '(?<missing>[^']+)' is missing in 'feeds'|missing input: (?<absent>\S+)|invalid (?:feed|input) name/i,
    message: (match) => {
      const name = inputOf(match);
      return name
        ? `The data for the input "${name}" does not match the model.`
        : 'The data does not match the inputs of the model.';
    },
    action: 'Compare the shape and number type of the data with the inputs that "snug inspect" lists.',
    params: (match): Record<string, string> => {
      const name = inputOf(match);
      return name === undefined ? {} : { input: name };
    },
  },
  {
    code: 'E_MODEL_REJECTED',
    phase: 'load',
    pattern: /[\s\S]*/,
    message: () => 'The runtime refused to load this model.',
    action: 'Check the model with the tool that exported it; the details say what the runtime met.',
  },
  {
    code: 'E_RUN_FAILED',
    phase: 'run',
    pattern:
      /indices element out of data bounds|attempting to broadcast an axis by a dimension other than 1|non concat axis dimensions must match|cannot be reshaped to the requested shape|incompatible dimensions|dimension mismatch/i,
    message: () => 'The sizes of the inputs do not fit the model.',
    action:
      'Give sizes the model was made for, for example a shorter sequence with --dim NAME=N ("snug inspect" lists the names); the details say what the runtime met.',
  },
  {
    code: 'E_RUN_FAILED',
    pattern: /[\s\S]*/,
    message: () => 'The runtime failed while it ran the model.',
    action: 'Try another execution provider; the details say what the runtime met.',
  },
];

function inputOf(match: RegExpExecArray): string | undefined {
  const groups = match.groups ?? {};
  return groups.shape ?? groups.rank ?? groups.missing ?? groups.absent;
}

function operatorOf(match: RegExpExecArray): string {
  const groups = match.groups ?? {};
  const name = groups.kernel ?? groups.unregistered ?? groups.typed ?? groups.plain ?? groups.fatal ?? '?';
  return name.replace(/\(\d+\)$/, '');
}

/**
 * Turns a message of onnxruntime (or of the JavaScript engine beside it) into an error with a stable code.
 * The one place that knows onnxruntime's wording; the raw text goes to `details` only.
 *
 * @param phase `load` while a session is created, `run` while it runs
 */
export function classifyRuntimeError(text: string, phase: RuntimePhase): SnugError {
  for (const rule of rules) {
    if (rule.phase !== undefined && rule.phase !== phase) continue;
    const match = rule.pattern.exec(text);
    if (!match) continue;
    return new SnugError(rule.code, rule.message(match, phase), {
      action: rule.action,
      details: text,
      ...(rule.params ? { params: rule.params(match) } : {}),
    });
  }
  return new SnugError('E_RUN_FAILED', 'The runtime failed.', { details: text });
}

/** `E_PROVIDER` for a provider that could not be created, with the way to get it. */
export function providerError(provider: string, details: string): SnugError {
  const name = providerNames[provider] ?? provider;
  const action: Record<string, string> = {
    cuda: 'Run "npm run setup:cuda" and install the NVIDIA driver, or choose another provider.',
    webgpu: 'Install a current graphics driver (on Linux one with Vulkan), or choose the provider cpu.',
    dml: 'DirectML exists on Windows only. Choose another provider.',
    coreml: 'CoreML exists on macOS only. Choose another provider.',
  };
  return new SnugError('E_PROVIDER', `${name} is not available on this computer.`, {
    action: action[provider] ?? 'Choose another provider.',
    params: { provider },
    details,
  });
}

/** Signals that somebody sends; the others are how a process dies by itself. */
const sentSignals = new Set(['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']);

/** Names the way an onnxruntime process ended before it had answered. Cancelling is not decided here. */
export function exitError(exit: ProcessExit): SnugError {
  const how = exit.signal ?? `exit code ${exit.code ?? 'unknown'}`;
  const details = `The process ended with ${how}.${exit.stderr ? `\n${exit.stderr}` : ''}`;
  const params = { how };
  if (exit.memoryKill && exit.signal === 'SIGKILL') {
    return new SnugError('E_OUT_OF_MEMORY', 'The system ended the model’s process because memory ran out.', {
      action: 'Use a smaller batch, a smaller budget, or close other programs that use the memory.',
      params,
      details,
    });
  }
  if (exit.signal !== null && sentSignals.has(exit.signal)) {
    return new SnugError('E_ENGINE_KILLED', `The process that runs the model was ended from outside (${how}).`, {
      action: 'Start again. If this happens without your doing, the system may be short of memory.',
      params,
      details,
    });
  }
  // An allocation failure that nobody catches ends the process with SIGABRT; its last words name it.
  const memory = classifyRuntimeError(exit.stderr, 'run');
  if (exit.stderr !== '' && memory.code === 'E_OUT_OF_MEMORY') {
    return new SnugError('E_OUT_OF_MEMORY', memory.message, { action: memory.action, params, details });
  }
  return new SnugError('E_ENGINE_CRASHED', `The process that runs the model crashed (${how}).`, {
    action: 'Try a smaller batch or another execution provider.',
    params,
    details,
  });
}
