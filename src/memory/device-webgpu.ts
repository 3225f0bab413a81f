import type { Node, Tensor } from '../onnx/model.js';
import type { Shape } from '../onnx/shape.js';
import { DeviceHeaps, type DeviceBuffer } from './device-heaps.js';
import { webgpuKernel } from './device-webgpu-kernels.js';
import { hostInputs, type Placement } from './device-webgpu-placement.js';
import type { SizedPlan } from './simulate.js';
import { valueBytes } from './workspace.js';

/** Buffer sizes the WebGPU provider hands out, and how many unused ones of each it keeps. */
const buckets = new Map([
  [64, 250], [128, 200], [256, 200], [512, 200], [2048, 230], [4096, 200], [8192, 50], [16384, 50], [32768, 50],
  [65536, 50], [131072, 50], [262144, 50], [524288, 50], [1048576, 50], [2097152, 30], [4194304, 20], [8388608, 10],
  [12582912, 10], [16777216, 10], [26214400, 15], [33554432, 22], [44236800, 2], [58982400, 6], [67108864, 6],
  [134217728, 6], [167772160, 6],
]); // prettier-ignore
const bucketSizes = [...buckets.keys()];

const round16 = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** Size of the WebGPU buffer that holds `bytes`; beyond the largest bucket it is exact (16 bytes). */
export function webgpuBucket(bytes: number): number {
  if (bytes <= 0) return 0;
  return bucketSizes.find((bucket) => bucket >= bytes) ?? round16(bytes);
}

/** Dispatches that are recorded before they are sent to the device. */
const dispatchesPerSubmit = 16;
const conversionParameters = 64;
/** An original is let go of with the submission after its own and free once the one after that has run. */
const lettingGo = 2;
/** Buffers of one kind that are handed out again and again, by size. */
class BufferCache {
  readonly #ready = new Map<number, DeviceBuffer[]>();

  constructor(
    private readonly heaps: DeviceHeaps,
    private readonly most: (bytes: number) => number,
  ) {}

  take(bytes: number): DeviceBuffer {
    return this.#ready.get(bytes)?.pop() ?? this.heaps.place(bytes);
  }

  giveBack(buffer: DeviceBuffer): void {
    const ready = this.#ready.get(buffer.bytes) ?? [];
    if (ready.length >= this.most(buffer.bytes)) this.heaps.release(buffer);
    else this.#ready.set(buffer.bytes, [...ready, buffer]);
  }
}

export interface WebgpuRequest {
  sized: SizedPlan;
  /** Names of the values fed and fetched, without constants. */
  inputs: readonly string[];
  outputs: readonly string[];
  initializers: ReadonlyMap<string, Tensor>;
  shapes: ReadonlyMap<string, Shape>;
  placement: Placement;
  /**
   * Whether the CPU can write into device memory (integrated GPUs, software): weights then go straight into memory
   * of their own, exactly as large. Otherwise they are cut from heaps and pass through staging buffers.
   */
  unified: boolean;
}

export interface WebgpuTrace {
  weightsBytes: number;
  /** Staging buffers of one set of inputs and of outputs. */
  inputBytes: number;
  outputBytes: number;
  /** Device memory taken after loading and after a run, bytes. */
  loaded: number;
  cold: number;
  warm: number;
  /** Highest amount on the way, moments between the readings included. */
  highest: number;
  /** Bytes of values in use on the device at each step. */
  live: number[];
}

/**
 * Device memory a session takes with onnxruntime 1.30's WebGPU provider on Dawn: buffers by bucket, recycled
 * at once, placed in heaps; parameter buffers; converted weights; staging. What a tiny session makes the device
 * hold (a heap, the ring of 4 MiB through which parameters pass) is left out, as in the measurement: it belongs to the
 * device, not to the model. Checked buffer by buffer against the calls into a Vulkan driver.
 */
export function runWebgpu(request: WebgpuRequest): WebgpuTrace {
  return new WebgpuRun(request).run();
}

class WebgpuRun {
  readonly #heaps = new DeviceHeaps();
  readonly #storage = new BufferCache(this.#heaps, (bytes) => buckets.get(bytes) ?? 0);
  readonly #parameters = new BufferCache(this.#heaps, () => Infinity);
  readonly #buffers = new Map<string, DeviceBuffer>();
  readonly #live: number[] = [];
  /** Bytes of the values in {@link #buffers}. */
  #inUse = 0;
  #dispatches = 0;
  /** Weights that were converted; the device drops them during the first run. */
  #replaced: DeviceBuffer[] = [];
  /** Parameter buffers of what is recorded; they can be used again once that was submitted. */
  readonly #recorded: DeviceBuffer[] = [];
  #highest = 0;
  readonly #base: number;

  constructor(private readonly request: WebgpuRequest) {
    // The session that runs before (a chain of small nodes): its values, and the parameters between two submissions.
    const parameters = Array<number>(dispatchesPerSubmit).fill(16);
    for (const bytes of [64, 64, 64, ...parameters]) this.#heaps.place(bytes);
    this.#base = this.#heaps.bytes;
  }

  run(): WebgpuTrace {
    const weightsBytes = this.#load();
    const loaded = this.#taken();
    for (const original of this.#replaced) this.#heaps.release(original);
    const staged = (names: readonly string[]) =>
      names.filter((name) => this.#onDevice(name)).map((name) => round16(this.#bytes(name)));
    const outputs = staged(this.request.outputs);
    const uploads = staged(this.request.inputs).reduce((sum, bytes) => sum + bytes, 0);
    // Reading one output drops what was staged before it; what the last one was read through stays for a while.
    const inputBytes = outputs.length > 1 ? 0 : uploads;
    const outputBytes = outputs.at(-1) ?? 0;
    this.#runOnce(uploads);
    this.#note(Math.max(0, ...outputs));
    const cold = this.#taken() + inputBytes + outputBytes;
    this.#live.length = 0;
    this.#runOnce(uploads);
    // The driver has not yet dropped what the run before was read through.
    const warm = this.#taken() + inputBytes + 2 * outputBytes;
    return {
      weightsBytes,
      inputBytes,
      outputBytes,
      loaded,
      cold,
      warm,
      highest: Math.max(this.#highest, cold, warm),
      live: this.#live,
    };
  }

  #taken(): number {
    return this.#heaps.bytes - this.#base;
  }

  #note(extra = 0): void {
    this.#highest = Math.max(this.#highest, this.#taken() + extra);
  }

  #bytes(name: string): number {
    return valueBytes(this.request.shapes, name);
  }

  #onDevice(name: string): boolean {
    return !this.request.placement.host.has(name);
  }

  /** Uploads the weights and converts those that kernels want otherwise. */
  #load(): number {
    const { initializers, placement, unified } = this.request;
    const originals = new Map<string, DeviceBuffer>();
    let total = 0;
    let largest = 0;
    for (const [name, tensor] of initializers) {
      const bytes = round16(tensor.data.byteLength);
      if (!placement.deviceWeights.has(name) || bytes === 0) continue;
      if (unified) this.#heaps.take(bytes);
      originals.set(name, unified ? { bytes, offset: null } : this.#heaps.place(bytes));
      total += bytes;
      largest = Math.max(largest, bytes);
    }
    let replaced: DeviceBuffer[] = [];
    let compiled = false;
    for (const node of this.#conversions()) {
      const weight = webgpuKernel(node, initializers).convertsWeight;
      const original = weight === null ? undefined : originals.get(weight.name);
      if (weight === null || !original || !placement.soleUser.has(weight.name)) continue;
      if (weight.tiled && !compiled) {
        // While that shader is compiled the device gets through the simple ones before, and drops originals let go of.
        compiled = true;
        const gone = Math.max(0, replaced.length - lettingGo);
        for (const buffer of replaced.slice(0, gone)) this.#heaps.release(buffer);
        replaced = replaced.slice(gone);
      }
      this.#heaps.place(original.bytes);
      const parameters = this.#parameters.take(conversionParameters);
      this.#recorded.push(parameters);
      replaced.push(original);
    }
    // That of the last stays.
    replaced.pop();
    this.#submit();
    this.#note(unified ? 0 : 2 * largest);
    this.#replaced = replaced;
    return total;
  }

  /** Nodes in the order their weights are converted: those that fusions made come last. */
  #conversions(): Node[] {
    const nodes = this.request.sized.plan.steps.map(({ node }) => node);
    const fused = (node: Node): boolean => node.opType.startsWith('Fused');
    return [...nodes.filter((node) => !fused(node)), ...nodes.filter(fused)];
  }

  #runOnce(stagingBytes: number): void {
    const { sized, inputs } = this.request;
    for (const name of inputs) if (this.#onDevice(name)) this.#allocate(name);
    this.#note(stagingBytes);
    for (const step of sized.plan.steps) {
      this.#step(
        step.node,
        step.allocates.map(({ buffer }) => buffer),
        stagingBytes,
      );
      for (const buffer of step.frees) this.#free(buffer);
    }
    // Each output is read once everything recorded so far has run.
    this.#submit();
    for (const name of [...this.#buffers.keys()]) this.#free(name);
    this.#submit();
  }

  #step(node: Node, outputs: readonly string[], stagingBytes: number): void {
    const { placement, initializers, shapes } = this.request;
    if (placement.hostNodes.has(node)) {
      // Reading a value back waits for the device.
      if (placement.readsBack.has(node)) this.#submit();
      this.#live.push(this.#inUse);
      return;
    }
    const copied = node.inputs.filter((name, slot) => placement.host.has(name) && !hostInputs(node).has(slot));
    for (const name of copied) if (!this.#buffers.has(name)) this.#allocate(name);
    for (const name of outputs) if (this.#onDevice(name)) this.#allocate(name);
    const kernel = webgpuKernel(node, initializers);
    const temporary = kernel.temporaries(shapes).map((bytes) => this.#storage.take(webgpuBucket(bytes)));
    for (let dispatch = 0; dispatch < kernel.dispatches; dispatch += 1) this.#parameter(kernel.parameterBytes);
    this.#note(stagingBytes);
    this.#live.push(this.#inUse + temporary.reduce((sum, { bytes }) => sum + bytes, 0));
    for (const buffer of temporary) this.#storage.giveBack(buffer);
  }

  #allocate(name: string): void {
    const bytes = this.#bytes(name);
    if (bytes <= 0) return;
    const buffer = this.#storage.take(webgpuBucket(bytes));
    this.#buffers.set(name, buffer);
    this.#inUse += buffer.bytes;
  }

  #free(name: string): void {
    const buffer = this.#buffers.get(name);
    if (!buffer) return;
    this.#storage.giveBack(buffer);
    this.#buffers.delete(name);
    this.#inUse -= buffer.bytes;
  }

  #parameter(bytes: number): void {
    const buffer = this.#parameters.take(bytes);
    this.#recorded.push(buffer);
    this.#dispatches += 1;
    if (this.#dispatches >= dispatchesPerSubmit) this.#submit();
  }

  #submit(): void {
    this.#dispatches = 0;
    for (const buffer of this.#recorded) this.#parameters.giveBack(buffer);
    this.#recorded.length = 0;
  }
}
