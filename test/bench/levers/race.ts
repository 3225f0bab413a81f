import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { makeNode } from '../../../src/onnx/graph.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { graphOf, modelOf, value } from '../../unit/onnx/build.js';

/** One way to run a model. */
export interface Entrant {
  label: string;
  file: string;
  /** Session options as onnxruntime-node takes them. */
  options: object;
  /** Options of each run. */
  run?: object;
}

export interface Outcome {
  label: string;
  /** Highest resident bytes from before loading to the last run, above the process with a one-node session. */
  peakBytes: number;
  /** Median over rounds of this entrant's time over the first entrant's time in the same round. */
  ratio: number;
  /** Median of its own times. */
  latencyMs: number;
}

const tiny = Buffer.from(
  serializeModel(
    modelOf(
      graphOf({ nodes: [makeNode('Relu', ['x'], ['y'])], inputs: [value('x', [4])], outputs: [value('y', [4])] }),
    ),
  ),
).toString('base64');

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

async function ask(child: ChildProcess, message: object | string): Promise<unknown> {
  child.send(message);
  const [answer] = (await once(child, 'message')) as [{ ok: boolean; value: unknown }];
  if (!answer.ok) throw new Error(String(answer.value));
  return answer.value;
}

/**
 * Runs all entrants side by side, one run each per round, so that whatever else the computer does slows all alike.
 * The order within a round turns from round to round.
 */
export async function race(entrants: Entrant[], dims: Record<string, number>, rounds: number): Promise<Outcome[]> {
  const children = entrants.map(() =>
    fork(path.join(import.meta.dirname, 'worker.mjs'), [], { execArgv: ['--expose-gc'], stdio: 'inherit' }),
  );
  try {
    const times = entrants.map((): number[] => []);
    for (const [index, { file, options, run = {} }] of entrants.entries()) {
      await ask(children[index] as ChildProcess, { tiny, file, options, run, dims });
      // The first run of a shape allocates; it is no measure of speed.
      await ask(children[index] as ChildProcess, 'run');
    }
    for (let round = 0; round < rounds; round += 1) {
      for (let turn = 0; turn < entrants.length; turn += 1) {
        const index = (turn + round) % entrants.length;
        times[index]?.push((await ask(children[index] as ChildProcess, 'run')) as number);
      }
    }
    return await Promise.all(
      entrants.map(async ({ label }, index) => {
        const { peak } = (await ask(children[index] as ChildProcess, 'level')) as { peak: number };
        const own = times[index] ?? [];
        return {
          label,
          peakBytes: peak,
          ratio: median(own.map((time, round) => time / (times[0]?.[round] ?? NaN))),
          latencyMs: median(own),
        };
      }),
    );
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}
