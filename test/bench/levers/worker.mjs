/**
 * One session under one set of options, in a process of its own so that its memory can be told apart. Driven over IPC:
 * `{ file, options, run, dims }` loads, `'run'` runs once and answers the milliseconds, `'level'` answers the memory.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import * as ort from 'onnxruntime-node';

const status = (key) =>
  Number(new RegExp(`${key}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

let session = null;
let feeds = {};
let runOptions = {};
let base = 0;

function feed({ name, type, shape }, dims) {
  const size = (dim) =>
    typeof dim === 'number' ? dim : dim.split(' + ').reduce((sum, part) => sum + (dims[part] ?? NaN), 0);
  const sizes = shape.map(size);
  const count = sizes.reduce((product, dim) => product * dim, 1);
  if (type === 'int64') {
    const at = (index) =>
      name.includes('mask') ? 1 : name.includes('type') ? 0 : index % Math.min(dims.sequence ?? 8, 50);
    return new ort.Tensor(
      type,
      BigInt64Array.from({ length: count }, (_, index) => BigInt(at(index))),
      sizes,
    );
  }
  return new ort.Tensor(
    'float32',
    Float32Array.from({ length: count }, (_, index) => Math.sin(index)),
    sizes,
  );
}

async function run() {
  const started = performance.now();
  const outputs = await session.run(feeds, runOptions);
  const took = performance.now() - started;
  for (const tensor of Object.values(outputs)) tensor.dispose();
  return took;
}

async function load({ tiny, file, options, run: given, dims }) {
  // The runtime's own start is not the model's.
  const warm = await ort.InferenceSession.create(Buffer.from(tiny, 'base64'), { logSeverityLevel: 3 });
  await warm.release();
  globalThis.gc?.();
  // Sets the high-water mark back to what is resident now.
  writeFileSync('/proc/self/clear_refs', '5');
  base = status('VmRSS');
  runOptions = given;
  session = await ort.InferenceSession.create(file, { logSeverityLevel: 3, ...options });
  feeds = Object.fromEntries(session.inputMetadata.map((meta) => [meta.name, feed(meta, dims)]));
  return null;
}

const level = () => ({ peak: status('VmHWM') - base, now: status('VmRSS') - base });

process.on('message', async (message) => {
  try {
    const value = message === 'run' ? await run() : message === 'level' ? level() : await load(message);
    process.send({ ok: true, value });
  } catch (error) {
    process.send({ ok: false, value: String(error) });
  }
});
