import { SnugError } from '../contract/errors.js';
import type { Dtype, Pins, WeightFormat } from '../contract/types.js';
import type { WeightInfo } from '../quantize/index.js';
import { type Analysis, needsSamples } from './analysis.js';
import type { Mix } from './mixed-precision.js';

/**
 * A level says which dtype every weight is asked to have. Levels run from harmless to harsh; what a weight
 * cannot do on the provider falls back to the next wider dtype, with the reason kept.
 */
export interface Level {
  id: string;
  /** For people: `8-bit`, `mixed formats, 60 % 4-bit`. */
  label: string;
  /** The dtype asked for, before the table of truth has its say. */
  wanted: Dtype;
  /** Formats chosen weight by weight instead. */
  mix?: Mix;
}

const fp32: Level = { id: 'fp32', label: 'fp32', wanted: 'fp32' };
const fp16: Level = { id: 'fp16', label: 'fp16', wanted: 'fp16' };
const int8: Level = { id: 'int8', label: '8-bit', wanted: 'int8' };
const int8Static: Level = { id: 'int8-static', label: '8-bit with 8-bit activations', wanted: 'int8-static' };
const int8Dynamic: Level = {
  id: 'int8-dynamic',
  label: '8-bit, activations quantized while running',
  wanted: 'int8-dynamic',
};
const int4: Level = { id: 'int4', label: '4-bit', wanted: 'int4' };
const nf4: Level = { id: 'nf4', label: '4-bit from a table', wanted: 'nf4' };
const int2: Level = { id: 'int2', label: '2-bit', wanted: 'int2' };

const levels: Readonly<Record<Dtype, Level>> = {
  fp32,
  fp16,
  int8,
  'int8-static': int8Static,
  'int8-dynamic': int8Dynamic,
  int4,
  nf4,
  int2,
};

/**
 * Order in which a dtype that is not allowed is replaced; always ends at fp32. float16 is never a replacement: it
 * is a format of the whole graph, and not every device computes in it. Nor are 8-bit activations: who asks for small
 * weights did not ask for them.
 */
const wider: Record<Dtype, Dtype[]> = {
  int2: ['int4', 'int8', 'fp32'],
  nf4: ['int4', 'int8', 'fp32'],
  int4: ['int8', 'fp32'],
  int8: ['fp32'],
  'int8-static': ['int8', 'fp32'],
  'int8-dynamic': ['int8', 'fp32'],
  fp16: ['fp32'],
  fp32: [],
};

/** Levels worth trying with these pins: one when a dtype is pinned, else from no change to 4-bit; what is harsher or slower is tried when asked for. */
export function levelsFor(analysis: Analysis, pins: Pins): Level[] {
  if (pins.dtype) return [levels[pins.dtype]];
  const tried = [fp32];
  if (analysis.allows('fp16')) tried.push(fp16);
  tried.push(int8);
  if (analysis.hasSamples && analysis.allows('int8-static')) tried.push(int8Static);
  if (analysis.allows('int4')) tried.push(int4);
  return tried;
}

export function levelOf(dtype: Dtype): Level {
  return levels[dtype];
}

/** What a level asks of one weight. */
function wantedOf({ mix, wanted }: Level, weight: string): Dtype {
  return mix === undefined ? wanted : (mix.formats.get(weight)?.dtype ?? 'fp32');
}

/** The whole format of each weight: in a mix, blocks and zero points were chosen too. */
export function formatsOf(level: Level, dtypes: ReadonlyMap<string, Dtype>): Map<string, WeightFormat> {
  return new Map(
    [...dtypes].map(([name, dtype]) => {
      const chosen = level.mix?.formats.get(name);
      return [name, chosen?.dtype === dtype ? chosen : { dtype }];
    }),
  );
}

export interface Assignment {
  dtypes: Map<string, Dtype>;
  /** Weights that got another dtype than asked, with the reason from the table of truth. */
  reasons: Map<string, string>;
}

/** The dtype a weight can really have when `wanted` is asked for, and why it differs. */
function settle(info: WeightInfo, wanted: Dtype, hasSamples: boolean): { dtype: Dtype; reason?: string } {
  let reason: string | undefined;
  for (const dtype of [wanted, ...wider[wanted]]) {
    if (dtype === 'fp32') return reason === undefined ? { dtype } : { dtype, reason };
    const option = info.options.find((o) => o.dtype === dtype);
    if (option?.allowed && (hasSamples || !option.needsSamples)) {
      return reason === undefined ? { dtype } : { dtype, reason };
    }
    if (dtype === wanted) {
      reason = option?.allowed ? needsSamples : (option?.reason ?? `no ${dtype} encoding for this operator`);
    }
  }
  return reason === undefined ? { dtype: 'fp32' } : { dtype: 'fp32', reason };
}

/**
 * Gives every weight a dtype: pinned ones first, then the level or, in a mix, what was chosen for the weight.
 *
 * @throws SnugError `E_NOT_SUPPORTED` when a pinned dtype is impossible for its weight.
 */
export function assignDtypes(analysis: Analysis, weights: WeightInfo[], level: Level, pins: Pins): Assignment {
  const dtypes = new Map<string, Dtype>();
  const reasons = new Map<string, string>();
  for (const info of weights) {
    const pinned = pins.weights?.[info.name];
    const { dtype, reason } = settle(info, pinned ?? wantedOf(level, info.name), analysis.hasSamples);
    if (pinned && dtype !== pinned) {
      throw new SnugError('E_NOT_SUPPORTED', `${info.name} cannot be ${pinned}: ${reason ?? 'not possible here'}.`, {
        action: 'Choose another number format for this weight.',
        params: { weight: info.name, dtype: pinned },
      });
    }
    dtypes.set(info.name, dtype);
    if (reason !== undefined) reasons.set(info.name, reason);
  }
  return { dtypes, reasons };
}
