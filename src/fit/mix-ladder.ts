import { createHash } from 'node:crypto';
import type { Candidate, Damage, MixPoint, MixView, Pins } from '../contract/types.js';
import type { Analysis } from './analysis.js';
import type { Structure } from './candidate.js';
import { damageOfNoise } from './expected-damage.js';
import type { Level } from './levels.js';
import { agreeingWeights, Mixer, mixShares, type Mix } from './mixed-precision.js';
import { formatKey } from './sensitivity.js';

const shownPoints = 60;

/** A structure that was built, at a batch: what other mixes of the same ratio need follows from it. */
export interface Anchor {
  structure: Structure;
  candidate: Candidate;
}

/**
 * The mixes of number formats between the smallest and the widest of all weights: what stands between 4 and 8 bits for
 * all. Bytes held by the weights are a function of the mix; what comes on top of them is that of a built structure.
 */
export class MixLadder {
  private readonly mixers = new Map<string, Mixer>();
  private readonly levels = new Map<string, Level>();
  private readonly groups: string[][];
  private readonly whole: number;

  constructor(private readonly analysis: Analysis) {
    this.groups = agreeingWeights(analysis.model, analysis.provider);
    this.whole = bytesBefore(analysis.weights);
  }

  /** Whether any weight has a choice. */
  get offers(): boolean {
    return this.analysis.allows('int4');
  }

  /** After the sensitivities changed. Levels stay: candidates of before still go by their names. */
  clear(): void {
    this.mixers.clear();
  }

  levelById(id: string): Level | undefined {
    return this.levels.get(id);
  }

  /** The smallest of all mixes. */
  smallest(pins: Pins): Level {
    return this.level(this.mixer(pins).mix(0, 'resident'));
  }

  /** The mix a person picked by its bytes; the smallest where no other is as small. */
  picked(pins: Pins, weightBytes: number): Level {
    const mixer = this.mixer(pins);
    return this.level(mixer.within(weightBytes, 'resident') ?? mixer.mix(0, 'resident'));
  }

  /**
   * The least damaging mix that should stay within a budget, by what an anchor of the same ratio needs; null: none.
   * @param other a second anchor: loading may take more than the bytes held, and the two say how much
   */
  within(pins: Pins, budgetBytes: number, { structure, candidate }: Anchor, other: Anchor): Level | null {
    const held = structure.residentBytes - other.structure.residentBytes;
    const needed = candidate.estimate.highBytes - other.candidate.estimate.highBytes;
    const slope = held === 0 ? 1 : Math.max(1, needed / held);
    const bytes = structure.residentBytes + (budgetBytes - candidate.estimate.highBytes) / slope;
    // Pruning leaves a part of the bytes that the front counts.
    const target = bytes * (this.whole / bytesBefore(structure.weights));
    const mix = this.mixer(pins).within(target, 'resident');
    return mix && this.level(mix);
  }

  /** What a mix should need at an anchor's ratio and batch. */
  sizes(mix: Mix, { structure, candidate }: Anchor): { peakBytes: number; fileBytes: number } {
    const share = bytesBefore(structure.weights) / this.whole;
    const stored = structure.weights.reduce((sum, { bytesAfter }) => sum + bytesAfter, 0);
    return {
      peakBytes: Math.round(candidate.estimate.peakBytes - structure.residentBytes + share * mix.residentBytes),
      fileBytes: Math.round(candidate.fileBytes - stored + share * mix.storedBytes),
    };
  }

  /** The front for a screen. */
  view(pins: Pins, shown: Candidate, anchor: Anchor): MixView {
    const mixer = this.mixer(pins);
    const chosen = shown.plan.mix?.weightBytes;
    const front: MixPoint[] = spread(mixer.front('resident').points.length).map((at) => {
      const mix = mixer.mix(at, 'resident');
      return {
        weightBytes: mix.residentBytes,
        ...this.sizes(mix, anchor),
        damage: mixDamage(mix),
        shares: mixShares(this.dtypesOf(mix)),
        chosen: mix.residentBytes === chosen,
      };
    });
    return { basis: mixer.sensitivity.basis, front };
  }

  private mixer({ weights = {} }: Pins): Mixer {
    const key = JSON.stringify(weights);
    let mixer = this.mixers.get(key);
    if (mixer === undefined) {
      mixer = new Mixer(this.analysis.sensitivity, weights, this.groups);
      this.mixers.set(key, mixer);
    }
    return mixer;
  }

  /** Named by its formats: two mixes of as many bytes are not the same. The newest knows best what its weights do. */
  private level(mix: Mix): Level {
    const percent = Math.round((mixShares(this.dtypesOf(mix)).int4 ?? 0) * 100);
    const formats = JSON.stringify([...mix.formats].map(([name, format]) => [name, formatKey(format)]));
    const digest = createHash('sha256').update(formats).digest('hex').slice(0, 12);
    const level: Level = { id: `mix-${digest}-${percent}`, label: mixLabel(percent), wanted: 'int4', mix };
    this.levels.set(level.id, level);
    return level;
  }

  private dtypesOf(mix: Mix): { dtype: Level['wanted']; bytesBefore: number }[] {
    return this.analysis.weights.map(({ name, bytesBefore: bytes }) => ({
      dtype: mix.formats.get(name)?.dtype ?? 'fp32',
      bytesBefore: bytes,
    }));
  }
}

export function mixDamage(mix: Mix): Damage {
  return damageOfNoise(mix.noise);
}

/** Name of a mix: what share of the weights has 4 bits. */
export function mixLabel(percent: number): string {
  return `mixed formats, ${percent} % 4-bit`;
}

function bytesBefore(weights: readonly { bytesBefore: number }[]): number {
  return weights.reduce((sum, weight) => sum + weight.bytesBefore, 0) || 1;
}

/** At most {@link shownPoints} indices of a list, both ends included. */
function spread(count: number): number[] {
  if (count <= shownPoints) return Array.from({ length: count }, (_, at) => at);
  return Array.from({ length: shownPoints }, (_, at) => Math.round((at * (count - 1)) / (shownPoints - 1)));
}
