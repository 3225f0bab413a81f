/** Deterministic standard normal numbers (Box-Muller over a 32-bit linear congruential generator). */
export function gaussian(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/** Signal-to-noise ratio of an approximation in dB. */
export function sqnr(exact: ArrayLike<number>, approximate: ArrayLike<number>): number {
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < exact.length; i++) {
    signal += exact[i]! ** 2;
    noise += (exact[i]! - approximate[i]!) ** 2;
  }
  return 10 * Math.log10(signal / noise);
}
