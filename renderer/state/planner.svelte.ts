import type { OpenModel, SnugApi } from '../../src/contract/api.js';
import type { ErrorReport } from '../../src/contract/errors.js';
import type { Dtype, Pins, PlanRequest, PlanView, PruneCurve } from '../../src/contract/types.js';
import type { HardwareStore } from './hardware.svelte.js';

export type PinName = keyof Pins;

/**
 * The plan as the user shapes it. Every change asks the engine again, at most once per frame and one request
 * at a time; what was asked meanwhile is answered by the newest request only.
 */
export class Planner {
  readonly #api: SnugApi;
  readonly #hardware: HardwareStore;
  model: OpenModel | null = $state.raw(null);
  pins: Pins = $state.raw({});
  /** The user's own budget; null = Snug's choice. */
  ownBudgetBytes: number | null = $state(null);
  view: PlanView | null = $state.raw(null);
  error: ErrorReport | null = $state.raw(null);
  solving = $state(false);
  /** What pruning was measured to do so far; null before the first word of it. */
  curve: PruneCurve | null = $state.raw(null);

  /** Why measuring batch sizes could not begin. */
  sweepError: ErrorReport | null = $state.raw(null);

  readonly budgetBytes: number = $derived.by(() => this.ownBudgetBytes ?? this.#hardware.defaultBudgetBytes);
  readonly pinCount: number = $derived(Object.keys(this.pins).length + (this.ownBudgetBytes === null ? 0 : 1));

  #frame = 0;
  #running = false;
  #wanted = false;
  #generation = 0;

  constructor(api: SnugApi, hardware: HardwareStore) {
    this.#api = api;
    this.#hardware = hardware;
  }

  /** Starts over with a model just opened. */
  open(model: OpenModel): Promise<void> {
    this.show(model, {}, null);
    return this.solve();
  }

  /** Starts over with a model as its plan was shaped before; nothing is worked out yet. */
  show(model: OpenModel, pins: Pins, ownBudgetBytes: number | null): void {
    this.#generation += 1;
    this.model = model;
    this.pins = pins;
    this.ownBudgetBytes = ownBudgetBytes;
    this.view = null;
    this.curve = null;
    this.sweepError = null;
    this.error = null;
  }

  /** The same model with samples attached: pins stay. */
  refresh(model: OpenModel): Promise<void> {
    this.model = model;
    this.curve = null;
    return this.solve();
  }

  pin<K extends PinName>(name: K, value: Pins[K]): void {
    this.pins = { ...this.pins, [name]: value };
    this.#soon();
  }

  unpin(name: PinName): void {
    const rest = { ...this.pins };
    delete rest[name];
    this.pins = rest;
    this.#soon();
  }

  /** One format for all weights, or with null the choice back to Snug; a mix chosen before gives way. */
  chooseFormat(dtype: Dtype | null): void {
    const rest = { ...this.pins };
    delete rest.weightBytes;
    delete rest.dtype;
    this.pins = dtype === null ? rest : { ...rest, dtype };
    this.#soon();
  }

  /** The best mix of formats of so many bytes, in place of one format for all. */
  chooseMix(weightBytes: number): void {
    const rest = { ...this.pins };
    delete rest.dtype;
    this.pins = { ...rest, weightBytes };
    this.#soon();
  }

  /** Sets the width of one class, or gives it back with null. */
  pinClass(id: string, width: number | null): void {
    const classes = { ...this.pins.classes };
    delete classes[id];
    if (width !== null) classes[id] = width;
    if (Object.keys(classes).length === 0) this.unpin('classes');
    else this.pin('classes', classes);
  }

  async measurePruning(): Promise<void> {
    const { model } = this;
    if (model === null) return;
    const reply = await this.#api.measurePruning(model.modelId);
    if (!reply.ok && this.model === model)
      this.curve = { points: [], samples: 0, fitted: false, state: 'failed', total: 0 };
  }

  async stopMeasuringPruning(): Promise<void> {
    if (this.model !== null) await this.#api.stopMeasuringPruning(this.model.modelId);
  }

  /** More of a curve came in; the plan rests on every ratio measured. */
  takeCurve(modelId: string, curve: PruneCurve): void {
    if (modelId !== this.model?.modelId) return;
    const more = curve.points.length > (this.curve?.points.length ?? 0);
    this.curve = curve;
    if (more) void this.solve();
  }

  async measureBatches(): Promise<void> {
    const request = this.request();
    if (request === null) return;
    this.sweepError = null;
    const reply = await this.#api.measureBatches(request);
    if (!reply.ok && this.model?.modelId === request.modelId) this.sweepError = reply.error;
  }

  async stopMeasuringBatches(): Promise<void> {
    if (this.model !== null) await this.#api.stopMeasuringBatches(this.model.modelId);
  }

  /** One more batch size was measured: the plan tells what follows from it. */
  takeSweep(modelId: string): void {
    if (modelId === this.model?.modelId) void this.solve();
  }

  /** Everything but the budget is Snug's to choose again. */
  unpinSettings(): void {
    this.pins = {};
    this.#soon();
  }

  unpinAll(): void {
    this.pins = {};
    this.ownBudgetBytes = null;
    this.#soon();
  }

  setBudget(bytes: number | null): void {
    this.ownBudgetBytes = bytes === null ? null : Math.round(bytes);
    this.#soon();
  }

  isPinned(name: PinName): boolean {
    return this.pins[name] !== undefined;
  }

  /** The request as the controls stand now; null without a model. */
  request(): PlanRequest | null {
    if (this.model === null) return null;
    const provider = this.pins.provider ?? this.#hardware.device?.providers[0];
    return {
      modelId: this.model.modelId,
      budgetBytes: this.budgetBytes,
      pins: provider === undefined ? { ...this.pins } : { ...this.pins, provider },
    };
  }

  async solve(): Promise<void> {
    this.#wanted = true;
    if (this.#running) return;
    this.#running = true;
    this.solving = true;
    while (this.#wanted) {
      this.#wanted = false;
      const request = this.request();
      if (request === null) break;
      const generation = this.#generation;
      const reply = await this.#api.plan(request);
      if (generation !== this.#generation) continue; // an answer about a model no longer open
      if (reply.ok) {
        this.view = reply.value;
        this.error = null;
        if (reply.value.unfinished) {
          this.#wanted = true;
          // What the user does meanwhile comes first.
          await new Promise((resolve) => setTimeout(resolve, 30));
        }
      } else {
        this.error = reply.error;
      }
    }
    this.solving = false;
    this.#running = false;
  }

  #soon(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      void this.solve();
    });
  }
}
