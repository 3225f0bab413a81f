import { SnugError } from '../contract/errors.js';

/** The file is ONNX but breaks the format's rules. */
export function malformed(what: string, params: Record<string, string | number> = {}): SnugError {
  return new SnugError('E_MALFORMED', `The model breaks the ONNX format: ${what}`, {
    action: 'Export the model again, or check where the file came from.',
    params,
  });
}

/** A bound for hostile files was passed. */
export function tooCostly(what: string): SnugError {
  return new SnugError('E_TOO_COSTLY', `The model asks for more than Snug allows: ${what}`, {
    action: 'If you trust this file, please report it: the bound may be too low.',
  });
}

/** Errno of a failed file system call, or '' for other errors. */
export function errnoOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}
