import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { formatOptions, quantizableWeights, type WeightInfo } from '../quantize/index.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import type { Assignment } from './levels.js';
import { agreeingWeights, Mixer } from './mixed-precision.js';
import { measureSensitivity } from './measure-sensitivity.js';
import type { Sensitivity } from './sensitivity.js';

/**
 * Bytes of weights over those of plain 4 bits. Blocks of 32 with float32 scales, which other tools write, take 5 bits
 * a weight and plain ones here 4.5: there is room for a tenth.
 */
const allowance = 1.1;

/** Codes chosen on samples leave less than half of the noise of those chosen without. */
const chosenOnSamples = 0.45;

export interface FourBitRequest {
  model: Model;
  provider: Provider;
  dataset: Dataset;
  runtime: Runtime;
  /** For temporary models. */
  folder: string;
  /** Time for trying formats, once the session is open. */
  seconds: number;
  onProgress?: (done: number, total: number, weight: string) => void;
  signal?: AbortSignal;
}

/** Formats near 4 bits for all, and why some weights have wider ones. */
export interface FourBitFormats {
  formats: Map<string, WeightFormat>;
  reasons: Map<string, string>;
}

/**
 * What 4 bits for every weight become where samples can tell weights apart: blocks, zero points and 8 bits where they
 * lower the error of the answers most, in at most a tenth more bytes. A table that is looked up often needs more than
 * 4 bits; nothing averages its errors out.
 *
 * @param plain what 4 bits for all are here, fallbacks included
 * @throws SnugError of quantizing and of the runtime
 */
export async function formatsNearFourBits(plain: Assignment, request: FourBitRequest): Promise<FourBitFormats> {
  const { model, provider } = request;
  const options = formatOptions(model, provider, (dtype) => dtype === 'int4' || dtype === 'int8');
  const known = await measureSensitivity({ ...request, options });
  const asPlain = (weight: string): WeightFormat => ({ dtype: plain.dtypes.get(weight) ?? 'fp32' });
  const unchanged = new Map([...plain.dtypes.keys()].map((weight) => [weight, asPlain(weight)]));
  if (known.basis !== 'measured') return { formats: unchanged, reasons: new Map() };
  const tables = gathered(model);
  const sensitivity = known.scaled(chosenOnSamples, (weight) => !tables.has(weight));
  const pinned = Object.fromEntries([...plain.dtypes].filter(([, dtype]) => dtype === 'fp32'));
  const mixer = new Mixer(sensitivity, pinned, agreeingWeights(model, provider));
  const uniform = plainSum(sensitivity, quantizableWeights(model, provider), plain.dtypes);
  const mix = mixer.within(uniform.bytes * allowance, 'stored');
  if (mix === null || mix.noise >= uniform.noise) return { formats: unchanged, reasons: new Map() };
  const reasons = new Map<string, string>();
  for (const [weight, { dtype }] of mix.formats) {
    if (dtype === 'int4' || plain.dtypes.get(weight) !== 'int4') continue;
    const share = Math.round((100 * (uniform.noises.get(weight) ?? 0)) / uniform.noise);
    reasons.set(weight, `on the samples, 4 bits here would do ${share} % of all harm`);
  }
  return { formats: new Map([...unchanged, ...mix.formats]), reasons };
}

/** Weights that are looked up: their codes are not chosen on samples. */
function gathered({ graph }: Model): Set<string> {
  return new Set(graph.nodes.flatMap(({ opType, inputs }) => (opType === 'Gather' ? [inputs[0]!] : [])));
}

/** Bytes and noise of one dtype for all, in the blocks it has by default; noise as of the option nearest in bytes. */
function plainSum(
  sensitivity: Sensitivity,
  infos: readonly WeightInfo[],
  dtypes: ReadonlyMap<string, Dtype>,
): { bytes: number; noise: number; noises: Map<string, number> } {
  const noises = new Map<string, number>();
  let [bytes, noise] = [0, 0];
  for (const { name, bytesBefore, options } of infos) {
    const dtype = dtypes.get(name);
    const own = options.find((option) => option.dtype === dtype)?.bytesAfter ?? bytesBefore;
    bytes += own;
    const [nearest] = (sensitivity.options.get(name) ?? [])
      .filter(({ format }) => format.dtype === dtype)
      .sort((a, b) => Math.abs(a.storedBytes - own) - Math.abs(b.storedBytes - own));
    const least = nearest === undefined ? 0 : sensitivity.noise(name, nearest);
    noises.set(name, least);
    noise += least;
  }
  return { bytes, noise, noises };
}
