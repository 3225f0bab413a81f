/** The room's public face: what other rooms may call. Sources and parsers stay inside. */
export { budgetFor, keptFreeBytes, manualReading, presetBytes } from './budget.js';
export { gpuProviders } from './providers.js';
export { type DeviceSample, type DeviceSampler, sampleDevice, type SampleOptions } from './sample.js';
export { readHardware, type ReadOptions } from './read.js';
