import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import { intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { newModel } from '../onnx/new-model.js';
import { writeError } from '../onnx/output.js';
import { serializeModel } from '../onnx/serialize.js';
import { int64Tensor } from '../onnx/tensor.js';
import { Garbage } from './garbage.js';
import { onnxruntime, runSession, sessionOptions } from './session.js';
import type { ProductOf } from './types.js';

/** Rows of the product that are one tensor. */
const panelRows = 512;

interface Panel {
  /** First row, and first column: what lies left of it is in other panels, turned. */
  start: number;
  end: number;
  /** `[end − start, columns − start]`. */
  sums: Tensor;
}

interface Sums {
  columns: number;
  panels: Panel[];
  means: Float64Array;
}

/**
 * Sums of XᵀX over runs. The matrix is symmetric: it is kept, and worked out, in panels from the diagonal on, which is
 * little more than half of it, and each panel is added to where it lies.
 */
export class ProductSums {
  readonly #known = new Map<string, Sums>();
  readonly #garbage = new Garbage();
  #session: InferenceSession | null = null;

  /**
   * @param values float32 outputs of a run by name
   * @returns rows of each
   */
  async add(values: Readonly<Record<string, Tensor>>, products: readonly ProductOf[]): Promise<number[]> {
    const { Tensor: Value } = await onnxruntime();
    const counts: number[] = [];
    for (const { output, columns } of products) {
      const data = values[output]!.data as Float32Array;
      const rows = data.length / columns;
      if (!Number.isInteger(rows))
        throw new SnugError('E_BAD_REQUEST', `"${output}" has no rows of ${columns} values.`);
      counts.push(rows);
      let sums = this.#known.get(output);
      if (!sums) this.#known.set(output, (sums = emptySums(columns, Value)));
      if (rows === 0) continue;
      for (let i = 0; i < data.length; i++) sums.means[i % columns]! += data[i]!;
      const x = new Value('float32', data, [rows, columns]);
      for (const panel of sums.panels) await this.#addPanel(x, panel, Value);
    }
    return counts;
  }

  async #addPanel(x: Tensor, { start, end, sums }: Panel, Value: typeof Tensor): Promise<void> {
    this.#session ??= await openProduct();
    const at = (value: number): Tensor => new Value('int64', BigInt64Array.of(BigInt(value)), [1]);
    // Gemm may write its result over what it adds to (its kernel says so), so the sums never exist twice; what the
    // binding hands back of them is a copy.
    const feeds = { x, start: at(start), end: at(end), before: sums };
    await runSession(this.#session, feeds, { sums });
    this.#garbage.add(2 * sums.size * 4);
  }

  /**
   * Writes the sums of an output to a new file, whole or not at all: `columns` × `columns` float32 values, row-major.
   * @returns the sums of its columns
   * @throws SnugError E_BAD_REQUEST for an output nothing is known of; E_EXISTS, E_DISK_FULL, E_WRITE_FAILED…
   */
  store(output: string, file: string): Float32Array {
    const known = this.#known.get(output);
    if (!known) throw new SnugError('E_BAD_REQUEST', `No sums are kept of "${output}".`);
    let handle: number | null = null;
    let whole = false;
    try {
      handle = openSync(file, 'wx');
      for (const panel of known.panels) writeAll(handle, wholeRows(known, panel));
      whole = true;
    } catch (error) {
      throw writeError(error, file);
    } finally {
      if (handle !== null) closeSync(handle);
      if (handle !== null && !whole) rmSync(file, { force: true });
    }
    this.#known.delete(output);
    return Float32Array.from(known.means);
  }
}

function emptySums(columns: number, Value: typeof Tensor): Sums {
  const panels: Panel[] = [];
  for (let start = 0; start < columns; start += panelRows) {
    const end = Math.min(columns, start + panelRows);
    const dims = [end - start, columns - start] as const;
    panels.push({ start, end, sums: new Value('float32', new Float32Array(dims[0] * dims[1]), dims) });
  }
  return { columns, panels, means: new Float64Array(columns) };
}

/** The rows of a panel with all their columns. */
function wholeRows({ columns, panels }: Sums, panel: Panel): Float32Array {
  const rows = new Float32Array((panel.end - panel.start) * columns);
  for (const { start, end, sums } of panels) {
    const values = sums.data as Float32Array;
    const width = columns - start;
    if (start > panel.start) break;
    for (let row = panel.start; row < panel.end; row++) {
      const to = (row - panel.start) * columns;
      if (start === panel.start) {
        rows.set(values.subarray((row - start) * width, (row - start + 1) * width), to + start);
      } else
        for (let column = start; column < end; column++)
          rows[to + column] = values[(column - start) * width + row - start]!;
    }
  }
  return rows;
}

function writeAll(handle: number, values: Float32Array): void {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let at = 0; at < bytes.length;) at += writeSync(handle, bytes, at);
}

/** `sums = before + x[:, start:end]ᵀ · x[:, start:]`. */
function productModel(): Model {
  const slice = (end: string, output: string) => makeNode('Slice', ['x', 'start', end, 'axis'], [output]);
  const floats = (name: string) => ({ name, dataType: DataType.FLOAT, dims: [`${name}.0`, `${name}.1`] });
  const index = (name: string) => ({ name, dataType: DataType.INT64, dims: [1] });
  return newModel({
    name: 'product',
    opset: 13,
    nodes: [
      slice('end', 'left'),
      slice('last', 'right'),
      makeNode('Gemm', ['left', 'right', 'before'], ['sums'], { transA: intAttribute(1) }),
    ],
    weights: [int64Tensor('axis', [1], [1]), int64Tensor('last', [1], [2 ** 31])],
    inputs: [floats('x'), index('start'), index('end'), floats('before')],
    outputs: [floats('sums')],
  });
}

async function openProduct(): Promise<InferenceSession> {
  const { InferenceSession: Session } = await onnxruntime();
  return Session.create(serializeModel(productModel()), sessionOptions({ provider: 'cpu', lean: true }));
}
