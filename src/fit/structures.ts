import type { Pins, PruneMethod } from '../contract/types.js';
import type { Analysis } from './analysis.js';
import { buildStructure, type Structure } from './candidate.js';
import { levelOf, type Level } from './levels.js';
import { mixBetween } from './mix-between.js';
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
  /** While a budget moves, mixes are told from the structures around them; those of this solve. */
  #moving: Map<string, Structure> | null = null;

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

  /** The structure itself; of a mix that is not built, while a budget moves, what 8 and 4 bits for all tell of it. */
  soon(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure {
    return this.#between(level, ratio, method, pins) ?? this.of(level, ratio, method, pins);
  }

  #between(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure | null {
    const { mix } = level;
    const key = keyOf(level, ratio, method, pins);
    if (mix === undefined || this.#moving === null || this.#built.has(key)) return null;
    const known = this.#moving.get(key);
    if (known) return known;
    const [eight, four] = [levelOf('int8'), levelOf('int4')].map((one) =>
      this.#built.get(keyOf(one, ratio, method, pins)),
    );
    if (!eight || !four) return null;
    const between = mixBetween(this.analysis, { ...level, mix }, eight, four, pins);
    this.#moving.set(key, between);
    this.#stoodIn = true;
    return between;
  }

  /** The structure itself where it is built or time allows, else the closest that is built. */
  closest(level: Level, ratio: number, method: PruneMethod, pins: Pins): Structure {
    const known = this.#built.get(keyOf(level, ratio, method, pins)) ?? this.#between(level, ratio, method, pins);
    if (known || performance.now() < this.#deadline) return known ?? this.of(level, ratio, method, pins);
    const near = [...chartRatios]
      .sort((a, b) => Math.abs(a - ratio) - Math.abs(b - ratio))
      .map((other) => this.#built.get(keyOf(level, other, method, { ...pins, classes: undefined })))
      .find((structure) => structure !== undefined);
    if (near === undefined) return this.of(level, ratio, method, pins);
    this.#stoodIn = true;
    return near;
  }

  /**
   * After this moment (by `performance.now()`) a close structure stands for one that is not built.
   * @param moving whether mixes are not to be built at all
   */
  hurry(deadline: number, moving: boolean): void {
    this.#deadline = deadline;
    this.#moving = moving ? new Map() : null;
    this.#stoodIn = false;
  }

  /** Ends the hurry. @returns whether a structure stood for another meanwhile */
  stoodIn(): boolean {
    this.#deadline = Infinity;
    this.#moving = null;
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
