import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collector = () => void;

/** Bytes of values let lie about before they are collected. */
const tolerated = 8 * 2 ** 20;

let known: Collector | null | undefined;

function collector(): Collector | null {
  if (known !== undefined) return known;
  // Electron freezes the flags of V8 at its start.
  if (process.versions.electron !== undefined) return (known = null);
  setFlagsFromString('--expose-gc');
  known = runInNewContext('gc') as Collector;
  setFlagsFromString('--no-expose-gc');
  return known;
}

/** Frees what nothing refers to any more. */
export function collectGarbage(): void {
  collector()?.();
}

/**
 * Counts bytes of typed arrays that were used once (messages, results of a run) and frees them when they are many. V8
 * sees only the small objects that own them and by itself lets tens of megabytes pile up.
 */
export class Garbage {
  #bytes = 0;

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < tolerated) return;
    this.#bytes = 0;
    collectGarbage();
  }
}

/** Bytes of values (of strings: none). */
export function bytesOfValues(values: Readonly<Record<string, { data: unknown }>>): number {
  return Object.values(values).reduce((sum, { data }) => sum + (ArrayBuffer.isView(data) ? data.byteLength : 0), 0);
}
