import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { dtypes, type Plan } from '../../../src/contract/types.js';
import { structureLabel } from '../../../src/fit/candidate.js';
import { levelOf } from '../../../src/fit/levels.js';
import { notWeighed } from '../../../src/fit/weigh.js';
import { mixLabel } from '../../../src/fit/mix-ladder.js';
import { measuredWidths } from '../../../src/fit/measured-widths.js';
import { trainingStopped } from '../../../src/fit/quantize-step.js';
import { inVain, noGradient, notShared, recoveredLabel, timeUsedUp } from '../../../src/fit/recover-candidate.js';
import { truth } from '../../../src/quantize/truth.js';
import { en } from '../../../renderer/i18n/en.js';
import { zhCN } from '../../../renderer/i18n/zh-CN.js';
import { planName, planOutcome } from '../../../renderer/view/plan-name.js';

/** Words that stay English in Chinese sentences: names of formats, operators, providers and fields. */
const names =
  /onnxruntime|TensorRT|Core ML|CPU|float(?:16|32)|shader-f16|ConvTranspose|Conv|Add|If|Loop|transA|alpha|beta|opset|int8-static/gu;
const english = (text: string): string | null => /[A-Za-z]{2,}/u.exec(text.replace(names, ''))?.[0] ?? null;

/** As much of a plan as tells what training after it is called. */
const planOf = (share: number): Plan => ({ classes: [{ before: 8, after: 8 * share }] }) as Plan;

const notes = [
  ...new Set(
    Object.values(truth).flatMap((table) =>
      Object.values(table).flatMap((roles) => Object.values(roles).flatMap(({ note }) => (note ? [note] : []))),
    ),
  ),
];

/** Reasons written as literals where single weights are judged. */
function literals(file: string): string[] {
  const source = readFileSync(new URL(`../../../src/${file}`, import.meta.url), 'utf8').replace(
    /\/\*[\s\S]*?\*\/|\/\/.*/gu,
    '',
  );
  const found = [...source.matchAll(/(?:return|\?\??|:|=|before,)\s*'([^'\n]* [^'\n]*)'/gu)].map((m) => m[1]);
  return found.filter((text) => /^[a-z]/u.test(text));
}

describe('what the engine says has words in Chinese', () => {
  it.each(notes)('a note of the table of truth: %s', (note) => {
    expect(english(zhCN.engine.sentence(note))).toBeNull();
    expect(english(zhCN.engine.sentence(`Add: ${note}`))).toBeNull();
    expect(english(zhCN.engine.sentence(`96 % of the weights keep another format (Conv: ${note})`))).toBeNull();
  });

  const reasons = [
    'quantize/plan.ts',
    'quantize/obstacles.ts',
    'quantize/quantize.ts',
    'quantize/sites.ts',
    'fit/analysis.ts',
    'fit/levels.ts',
  ].flatMap(literals);
  it('finds the reasons in the source', () => expect(reasons.length).toBeGreaterThan(20));
  it.each(reasons)('a reason of one weight: %s', (reason) => {
    expect(english(zhCN.engine.clause(reason))).toBeNull();
    expect(english(zhCN.engine.clause(`not int8-static: ${reason}`))).toBeNull();
  });

  it.each([
    'The original could not run here: Memory ran out while the model ran.',
    'Stopped. Nothing was changed. The best so far was kept.',
    'Without samples, the layers were refitted on made-up inputs; the answers are closer for it.',
    'Without samples, the layers were refitted on made-up inputs.',
    'Refitting the layers on made-up inputs did not help, so it was left out.',
    notWeighed,
    'The model did not take made-up inputs, so nothing was refitted.',
    'Every group was cut by the same share: measuring which ones cost least would take about 7 minutes.',
    inVain(planOf(0.5)),
    inVain(planOf(1)),
    noGradient,
    notShared,
    timeUsedUp,
    trainingStopped,
    'Training after quantization failed, so it was left out: Memory ran out while the model ran.',
    'Training after quantization brought one answer closer and another further away, so it was left out.',
    'Training what pruning left brought one answer closer and another further away, so it was left out.',
    'Nothing was trained after pruning: the answers are close to the original’s already.',
    'Nothing was trained after quantization: no weight that can be trained acts on the answers.',
    'Training after quantization did not bring the answers closer, so it was left out.',
    'After quantization, scales, biases and other small weights were trained on unlabelled samples for 9 s: 0.31 → 0.012 nats from the original on the samples that chose the best step.',
    'After quantization, 4 blocks were trained on unlabelled samples for 9 s: 8.1 → 13.4 dB signal to noise on the samples that chose the best step.',
    'Training what pruning left did not bring the answers closer, so it was left out.',
    'After pruning, all weights together were trained on unlabelled samples for 9 s: 8.1 → 13.4 dB signal to noise on the samples that chose the best step.',
    'After pruning, all weights together were trained on unlabelled samples for 9 s: 0.31 → 0.012 nats from the original on the samples that chose the best step.',
    'The file fixes the batch at 1; 8 is not possible.',
    '3 % of the weights keep another format (values there reach 7e+4, too close to the end of float16 (65504))',
    'it is not float32; it needs the range of float32',
    'no int4 encoding for this operator',
  ])('a sentence made of parts: %s', (text) => expect(english(zhCN.engine.sentence(text))).toBeNull());

  it.each([
    '"w" needs 3221225472 bytes in one piece, more than 2 GiB',
    '"w" needs 300000000 bytes in one piece, more than 256 MiB, the buffer size every WebGPU device has',
    '"w" needs 150000000 bytes in one binding, more than the 128 MiB every WebGPU device can bind; where it can bind no more, in pieces',
  ])('a limit, with its size as the page writes sizes: %s', (text) => {
    const words = zhCN.engine.sentence(text).replace(/WebGPU|GiB|MiB|GB|MB|“w”/gu, '');
    expect(english(words)).toBeNull();
    expect(zhCN.engine.sentence(text)).toMatch(/\d\s[GM]B/u);
    expect(en.engine.sentence(text)).toMatch(/\d\s[GM]B/u);
  });

  it('an unknown sentence is shown as it came', () =>
    expect(zhCN.engine.sentence('Something new: entirely.')).toBe('Something new: entirely.'));
});

describe('a plan is named alike everywhere', () => {
  const levels = [...dtypes.map(levelOf), { ...levelOf('int4'), id: 'mix-1000-25', label: mixLabel(25) }];
  const labels = levels.flatMap((level) => {
    const pruned = structureLabel(level, 0.3);
    const trained = recoveredLabel(planOf(0.5));
    const how = [[measuredWidths], [trained], [measuredWidths, trained]];
    const whole = structureLabel(level, 0);
    return [
      ...[whole, `${whole}, ${recoveredLabel(planOf(1))}`],
      ...[pruned, ...how.map((more) => [pruned, ...more].join(', '))],
    ];
  });

  it.each(labels)('%s', (label) => {
    expect(english(planName(label, zhCN))).toBeNull();
    expect(planName(label, en)).not.toContain(' %');
  });

  it('in the words of the number formats', () => {
    expect(planName('8-bit, activations quantized while running, 30 % pruned', en)).toBe('8-bit dynamic, 30% pruned');
    expect(planName('30 % pruned', en)).toBe('30% pruned');
    expect(planName('unchanged', en)).toBe('unchanged');
  });

  it('and so is how it ended', () => {
    expect(planOutcome('fits, damage small', zhCN)).toBe('放得下，损失小');
    expect(planOutcome('over the budget', zhCN)).toBe('超出预算');
    expect(planOutcome('Memory ran out while the model ran.', zhCN)).toBe('运行模型时内存不足。');
  });
});
