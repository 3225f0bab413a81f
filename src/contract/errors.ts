/**
 * Every failure a user can meet has one stable code here. Doors translate codes; they never show raw
 * runtime text outside "Details".
 */
export const errorCodes = [
  'E_USAGE', // wrong arguments
  'E_BAD_REQUEST', // a door sent something the contract does not allow
  'E_NOT_FOUND', // file or folder missing
  'E_NOT_ONNX', // not an ONNX file at all
  'E_TRUNCATED', // ends before its own lengths say
  'E_MALFORMED', // ONNX, but breaks the format's rules (or our bounds for hostile files)
  'E_TOO_COSTLY', // the model asks for more memory or nodes than allowed
  'E_OPSET_TOO_NEW', // opset above what the runtime knows
  'E_UNKNOWN_OPERATOR', // operator or domain the runtime has no kernel for
  'E_EXTERNAL_MISSING', // external data file missing or too short
  'E_EXTERNAL_OUTSIDE', // external data path leaves the model's folder (.., absolute, link, hard link)
  'E_FILE_CHANGED', // the file changed while it was read
  'E_DISK_FULL',
  'E_NO_PERMISSION', // read-only folder or missing rights
  'E_EXISTS', // the output exists and --force was not given
  'E_SAME_FILE', // the output is the input
  'E_WRITE_FAILED', // any other error of the file system while writing
  'E_DATA_FORMAT', // data set cannot be read (npy, npz, text, tokenizer)
  'E_DATA_SHAPE', // data set does not match the model's inputs
  'E_DIMENSION', // a named dimension has no value, or an impossible one
  'E_PROVIDER', // execution provider not available here
  'E_MODEL_REJECTED', // the runtime refused to load the model
  'E_RUN_FAILED', // the runtime failed while running
  'E_OUT_OF_MEMORY', // memory of the device or computer ran out
  'E_ENGINE_KILLED', // engine process ended from outside (signal)
  'E_ENGINE_CRASHED', // engine process ended by itself
  'E_CANCELLED',
  'E_NOTHING_FITS', // no plan reaches the budget
  'E_NOT_SUPPORTED', // asked for something this encoding, operator or provider cannot do
  'E_INTERNAL',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** Plain form of a {@link SnugError}: survives IPC and JSON. */
export interface ErrorReport {
  code: ErrorCode;
  /** What happened, in one English sentence (doors may translate by `code` and `params`). */
  message: string;
  /** What the user can do now. */
  action: string;
  /** Values for translated messages: paths, names, bytes. */
  params: Record<string, string | number>;
  /** Technical text for the "Details" fold; may hold runtime messages. */
  details?: string;
}

export class SnugError extends Error {
  readonly code: ErrorCode;
  readonly action: string;
  readonly params: Record<string, string | number>;
  readonly details?: string;

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      action?: string;
      params?: Record<string, string | number>;
      details?: string;
      cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SnugError';
    this.code = code;
    this.action = options.action ?? '';
    this.params = options.params ?? {};
    if (options.details !== undefined) this.details = options.details;
  }

  toReport(): ErrorReport {
    const report: ErrorReport = {
      code: this.code,
      message: this.message,
      action: this.action,
      params: this.params,
    };
    if (this.details !== undefined) report.details = this.details;
    return report;
  }

  static fromReport(report: ErrorReport): SnugError {
    return new SnugError(report.code, report.message, {
      action: report.action,
      params: report.params,
      ...(report.details === undefined ? {} : { details: report.details }),
    });
  }

  /** Wraps anything thrown; unknown errors become `E_INTERNAL` with the original text in details. */
  static from(thrown: unknown): SnugError {
    if (thrown instanceof SnugError) return thrown;
    const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    return new SnugError('E_INTERNAL', 'Something inside Snug went wrong.', {
      action: 'Please report this with the details below. Your original file was not changed.',
      details: text,
      cause: thrown,
    });
  }
}

export type Result<T> = { ok: true; value: T } | { ok: false; error: ErrorReport };
