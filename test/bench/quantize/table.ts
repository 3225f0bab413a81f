import type { ToolRun } from './tools.js';

/** What one method made of one model. */
export interface Row {
  model: string;
  method: string;
  /** Snug's own, or one of the Python tools'. */
  own: boolean;
  fileBytes: number;
  run: Pick<ToolRun, 'seconds' | 'cpuSeconds' | 'peakBytes'>;
  /** NaN where nothing was made. */
  bytes: number;
  sqnrDb: number | null;
  klNats: number | null;
  /** Share of samples with the same first choice. */
  top1: number | null;
  score: string;
  cpu: string;
  webgpu: string;
}

const header =
  'model | method | MB | ratio | seconds | processor s | tool peak / file | SQNR dB | KL nats | same top-1 % | score | cpu | webgpu';
const figure = (value: number | null, shown: (value: number) => string): string =>
  value === null || Number.isNaN(value) ? '–' : shown(value);

function line(row: Row): string {
  const { run, bytes, fileBytes } = row;
  return [
    ...[row.model, row.method],
    figure(bytes, (b) => (b / 1e6).toFixed(2)),
    figure(bytes, (b) => (fileBytes / b).toFixed(2)),
    run.seconds.toFixed(1),
    figure(run.cpuSeconds, (seconds) => seconds.toFixed(2)),
    `${(run.peakBytes / 1e6).toFixed(0)} MB, ${(run.peakBytes / fileBytes).toFixed(1)}×`,
    figure(row.sqnrDb, (db) => db.toFixed(2)),
    figure(row.klNats, (kl) => kl.toExponential(2)),
    figure(row.top1, (share) => (100 * share).toFixed(1)),
    ...[row.score, row.cpu, row.webgpu],
  ].join(' | ');
}

export const table = (rows: readonly Row[]): string => [header, ...rows.map(line)].join('\n');

/** Two sizes this close count as equal: names and metadata differ. */
const equalBytes = 1.002;

/** Peers that no row of Snug of as few or fewer bytes comes up to, with the best of those that are as small. */
export function losses(rows: readonly Row[]): string[] {
  const made = rows.filter((row) => row.sqnrDb !== null);
  return (
    made
      // A tool that left everything as it was is ahead of nobody.
      .filter(({ own, bytes, fileBytes }) => !own && bytes < fileBytes * 0.95)
      .flatMap((peer) => {
        const smaller = made.filter(
          (row) => row.own && row.model === peer.model && row.bytes <= peer.bytes * equalBytes,
        );
        const best = smaller.sort((a, b) => b.sqnrDb! - a.sqnrDb!)[0];
        if (best !== undefined && best.sqnrDb! >= peer.sqnrDb!) return [];
        const against =
          best === undefined
            ? 'nothing of ours is as small'
            : `${best.method} ${(best.bytes / 1e6).toFixed(2)} MB ${best.sqnrDb!.toFixed(2)} dB`;
        const theirs = `${peer.method} ${(peer.bytes / 1e6).toFixed(2)} MB ${peer.sqnrDb!.toFixed(2)} dB`;
        return [`${peer.model}: ${theirs} is ahead of ${against}`];
      })
  );
}
