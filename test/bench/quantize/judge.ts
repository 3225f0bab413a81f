import { openData, openModel } from '../../../src/app/open.js';
import type { Provider, Quality } from '../../../src/contract/types.js';
import { answerOutputs, Comparison } from '../../../src/quality/compare.js';
import type { Feeds, Runtime } from '../../../src/runtime/types.js';
import type { Case } from './cases.js';

const batch = 8;

/** What the float model answers to held-out samples, to hold quantized files against. */
export class Judge {
  private constructor(
    private readonly runtime: Runtime,
    private readonly feeds: Feeds[],
    private readonly answers: Feeds[],
  ) {}

  static async of(runtime: Runtime, subject: Case): Promise<Judge> {
    const opened = openModel(subject.file);
    const dataset = await openData(subject.heldOut, opened, subject.dims);
    const total = Math.min(subject.samples, dataset.samples);
    const feeds: Feeds[] = [];
    for (let start = 0; start < total; start += batch) {
      feeds.push(await dataset.feeds(start, Math.min(batch, total - start)));
    }
    await dataset.close();
    return new Judge(runtime, feeds, await answersOf(runtime, subject.file, 'cpu', feeds));
  }

  /** How far a file's answers are from the float model's. @throws when it does not load or run */
  async compare(file: string): Promise<Quality> {
    const comparison = new Comparison('samples');
    const answers = await answersOf(this.runtime, file, 'cpu', this.feeds);
    answers.forEach((answer, i) => comparison.add(this.answers[i]!, answer, samplesOf(this.feeds[i]!)));
    return comparison.quality();
  }

  /** Whether another provider gives the answers the CPU gives for the same file, on one batch: SQNR in dB. */
  async agreement(file: string, provider: Provider): Promise<number> {
    const first = this.feeds.slice(0, 1);
    const [own] = await answersOf(this.runtime, file, 'cpu', first);
    const [other] = await answersOf(this.runtime, file, provider, first);
    const comparison = new Comparison('samples');
    comparison.add(own!, other!, samplesOf(first[0]!));
    return comparison.quality().sqnrDb;
  }
}

const samplesOf = (feeds: Feeds): number => Object.values(feeds)[0]?.dims[0] ?? 0;

async function answersOf(
  runtime: Runtime,
  file: string,
  provider: Provider,
  feeds: readonly Feeds[],
): Promise<Feeds[]> {
  const session = await runtime.open({ modelPath: file, provider });
  try {
    const names = answerOutputs(session.outputs);
    const answers: Feeds[] = [];
    for (const batchFeeds of feeds) answers.push(await session.run(batchFeeds, names));
    return answers;
  } finally {
    await session.close();
  }
}
