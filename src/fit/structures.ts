import type { Pins, PruneMethod } from '../contract/types.js';
import type { Analysis } from './analysis.js';
import { buildStructure, type Structure } from './candidate.js';
import { levelOf, type Level } from './levels.js';
import { chartRatios } from './prune-view.js';

/** Built mixes kept for later moves of the budget. */
const keptMixes = 40;

const keyOf = (level: Level, ratio: number, method: PruneMethod, { weights, classes }: Pins): string =>
  JSON.stringify([level.id, ratio, method, weights, classes]);

/** The structures of one model that were built (prune ratio × dtype level), each of them once. */
export class Structures {
  readonly #built = new Map<string, Structure>();
  /** When to stop building what a close one can stand for, and whether one did. */
  #deadline = Infinity;
  #stoodIn = false;

  constructor(private readonly analysis: Analysis) {}

  of(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure {
    const key = keyOf(level, ratio, method, pins);
    let structure = this.#built.get(key);
    if (!structure) {
      const like = this.#like(level, ratio, method, pins);
      structure = buildStructure(this.analysis, level, ratio, method, pins, like);
      if (level.mix !== undefined) this.#forgetOldestMix();
      this.#built.set(key, structure);
    }
    return structure;
  }

  /** One that differs in widths or formats alone: what only moves memory pays there or here alike. */
  #like(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure | undefined {
    const uniform = level.mix === undefined ? [level] : [levelOf('int8'), levelOf('int4')];
    const others = pins.classes ? [pins, { ...pins, classes: undefined }] : [pins];
    for (const other of others) {
      for (const one of uniform) {
        const structure = this.#built.get(keyOf(one, ratio, method, other));
        if (structure) return structure;
      }
    }
    return undefined;
  }

  /** The structure itself where it is built or time allows, else the closest that is built. */
  closest(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure {
    const known = this.#built.get(keyOf(level, ratio, method, pins));
    if (known || performance.now() < this.#deadline) return known ?? this.of(level, ratio, method, pins);
    const near = [...chartRatios]
      .sort((a, b) => Math.abs(a - ratio) - Math.abs(b - ratio))
      .map((other) => this.#built.get(keyOf(level, other, method, { ...pins, classes: undefined })))
      .find((structure) => structure !== undefined);
    if (near === undefined) return this.of(level, ratio, method, pins);
    this.#stoodIn = true;
    return near;
  }

  /** After this moment (by `performance.now()`) a close structure stands for one that is not built. */
  hurry(deadline: number): void {
    this.#deadline = deadline;
    this.#stoodIn = false;
  }

  /** Ends the hurry. @returns whether a structure stood for another meanwhile */
  stoodIn(): boolean {
    this.#deadline = Infinity;
    return this.#stoodIn;
  }

  /** Those that were built with these pins, whatever their ratio. */
  built(method: PruneMethod, pins: Pins): Structure[] {
    return [...this.#built]
      .filter(([key, { level, pruneRatio }]) => key === keyOf(level, pruneRatio, method, pins))
      .map(([, structure]) => structure);
  }

  /** They carry what their weights were thought to do. */
  forgetMixes(): void {
    for (const [key, { level }] of this.#built) if (level.mix !== undefined) this.#built.delete(key);
  }

  /** Every budget has mixes of its own: those of long ago are built again when they are wanted again. */
  #forgetOldestMix(): void {
    const [oldest, ...others] = [...this.#built].filter(([, { level }]) => level.mix !== undefined);
    if (oldest && others.length + 1 >= keptMixes) this.#built.delete(oldest[0]);
  }
}
