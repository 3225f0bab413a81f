import * as v from 'valibot';
import type { SnugApi } from './api.js';
import { errorCodes, SnugError } from './errors.js';
import { losses, optimizers, schedules, trainableParts, trainingFileRoles } from './training.js';
import { dtypes, providers, pruneMethods } from './types.js';

/**
 * Guards for what a page may send. Both doors (HTTP and Electron IPC) run the same guard on the same array
 * of arguments before anything else looks at it, so a request that passes here has bounded size and shape.
 */

/** Opaque ids made by a door: models, jobs, samples, recents, upload sessions. */
const id = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/u));
/** Names taken from a model (weights, classes, dimensions); long, but never unbounded. */
const modelName = v.pipe(v.string(), v.maxLength(1024));
const bytes = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const extent = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 40));

/** At most 100,000 entries: the number of nodes Snug accepts in a model bounds what a page can pin. */
function table<T extends v.GenericSchema>(value: T) {
  return v.pipe(
    v.record(modelName, value),
    v.check((entries) => Object.keys(entries).length <= 100_000),
  );
}

const pins = v.strictObject({
  provider: v.optional(v.picklist(providers)),
  batch: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000_000))),
  dims: v.optional(table(extent)),
  pruneRatio: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1))),
  pruneMethod: v.optional(v.picklist(pruneMethods)),
  dtype: v.optional(v.picklist(dtypes)),
  weights: v.optional(table(v.picklist(dtypes))),
  classes: v.optional(table(extent)),
  weightBytes: v.optional(bytes),
});

const whole = (least: number, most: number) => v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));

/** Also what a file of Snug's own may hold of an interrupted training. */
export const trainingChoices = v.strictObject({
  loss: v.picklist(losses),
  trainable: v.picklist(trainableParts),
  adapterRank: whole(1, 4096),
  optimizer: v.picklist(optimizers),
  rate: v.pipe(v.number(), v.minValue(1e-12), v.maxValue(1e3)),
  schedule: v.picklist(schedules),
  epochs: whole(1, 1_000_000),
  batch: whole(1, 1_000_000),
  validation: v.pipe(v.number(), v.minValue(0), v.maxValue(0.9)),
  patience: v.nullable(whole(1, 1_000_000)),
});

const trainingRequest = v.strictObject({
  modelId: id,
  budgetBytes: bytes,
  provider: v.optional(v.picklist(providers)),
  dims: table(extent),
  choices: trainingChoices,
});

const planRequest = v.strictObject({ modelId: id, budgetBytes: bytes, pins });

/**
 * Files never travel through a call. The door takes them beforehand (upload, or paths from the preload) and
 * hands out a session id that stands for them.
 */
const fileSession = v.strictObject({ session: id });
export type FileSession = v.InferOutput<typeof fileSession>;

const errorReport = v.strictObject({
  code: v.picklist(errorCodes),
  message: v.pipe(v.string(), v.maxLength(10_000)),
  action: v.pipe(v.string(), v.maxLength(10_000)),
  params: table(v.union([v.pipe(v.string(), v.maxLength(10_000)), v.number()])),
  details: v.optional(v.pipe(v.string(), v.maxLength(200_000))),
});

/** The calls a page can make; listening to job events is a stream, not a call. */
export type CallName = Exclude<keyof SnugApi, 'onJobEvent' | 'onModelOpened'>;

/** One guard per call for its whole argument array. A call missing here does not compile. */
export const contract = {
  info: v.strictTuple([]),
  hardware: v.strictTuple([]),
  samples: v.strictTuple([]),
  recent: v.strictTuple([]),
  openFiles: v.strictTuple([fileSession]),
  chooseModel: v.strictTuple([]),
  openSample: v.strictTuple([id]),
  openRecent: v.strictTuple([id]),
  attachData: v.strictTuple([id, fileSession]),
  attachLabels: v.strictTuple([id, fileSession]),
  plan: v.strictTuple([planRequest]),
  accuracy: v.strictTuple([]),
  clearAccuracy: v.strictTuple([]),
  calibrate: v.strictTuple([v.picklist(providers)]),
  stopCalibration: v.strictTuple([]),
  measurePruning: v.strictTuple([id]),
  stopMeasuringPruning: v.strictTuple([id]),
  measureBatches: v.strictTuple([planRequest]),
  stopMeasuringBatches: v.strictTuple([id]),
  startFit: v.strictTuple([planRequest]),
  cancel: v.strictTuple([id]),
  jobs: v.strictTuple([]),
  dismissJob: v.strictTuple([id]),
  saveOutput: v.strictTuple([id, v.picklist(['model', 'report-json', 'report-html'])]),
  trainingSetup: v.strictTuple([id]),
  attachTraining: v.strictTuple([id, v.picklist(trainingFileRoles), fileSession]),
  planTraining: v.strictTuple([trainingRequest]),
  startTraining: v.strictTuple([trainingRequest]),
  resumeTraining: v.strictTuple([id]),
  discardTraining: v.strictTuple([id]),
  stopTraining: v.strictTuple([id]),
  openOutput: v.strictTuple([id]),
  diagnostics: v.strictTuple([v.nullable(errorReport)]),
} satisfies Record<CallName, v.GenericSchema>;

/** Checked arguments of one call. */
export type CallArguments<Name extends CallName> = v.InferOutput<(typeof contract)[Name]>;

/** What a door does for each call; arguments are already checked. */
export type CallHandlers = {
  [Name in CallName]: (...args: CallArguments<Name>) => unknown;
};

/** True for the name of a call in the contract (own keys only, so `constructor` is none). */
export function isCallName(name: unknown): name is CallName {
  return typeof name === 'string' && Object.hasOwn(contract, name);
}

/** The error for anything a door sends that the contract does not allow. */
export function badRequest(what: string): SnugError {
  return new SnugError('E_BAD_REQUEST', `Snug cannot take this request: ${what}.`, {
    action: 'Reload the page. If it happens again, please report it.',
  });
}

/**
 * Checks the name and arguments of a call and runs its handler.
 * Rejects with `E_BAD_REQUEST` when either is outside the contract; otherwise with whatever the handler throws.
 */
export async function dispatch(handlers: CallHandlers, name: unknown, args: unknown): Promise<unknown> {
  if (!isCallName(name)) throw badRequest('unknown call');
  const checked = v.safeParse(contract[name], args, { abortEarly: true });
  if (!checked.success) {
    const issue = checked.issues[0];
    const place = v.getDotPath(issue) ?? 'arguments';
    throw badRequest(`${name}: ${place} is not as agreed`);
  }
  // The guard above belongs to this very name; TypeScript cannot follow that link through the union.
  const handler = handlers[name] as (...checkedArgs: unknown[]) => unknown;
  return await handler(...checked.output);
}
