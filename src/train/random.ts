/** Numbers in 0…1 that depend on the seed alone (mulberry32, a 32-bit counter with a mixing function). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers with mean 0 and deviation 1 (Box and Muller 1958). */
export function normalNumbers(seed: number): () => number {
  const uniform = randomNumbers(seed);
  let spare: number | null = null;
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/** A seed of its own for each part of the work. */
export function mixSeed(seed: number, part: number): number {
  return Math.floor(randomNumbers((seed ^ Math.imul(part + 1, 0x9e3779b1)) >>> 0)() * 2 ** 32);
}

/** The same values in random order (Fisher and Yates). */
export function shuffled(values: readonly number[], seed: number): number[] {
  const random = randomNumbers(seed);
  const result = [...values];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j] as number, result[i] as number];
  }
  return result;
}
