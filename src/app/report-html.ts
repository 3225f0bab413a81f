import { adviceOf, damageAdvice } from '../contract/damage-bands.js';
import type { FitReport, Reason } from '../contract/types.js';
import { comparedOn, cosineText, decibelText, klText } from './damage-text.js';

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Model files are untrusted: every name in them is text, never markup. */
function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => escapes[c]);
}

function size(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return '–';
  const [scaled, unit] =
    bytes >= 999.5e6 ? [bytes / 1e9, 'GB'] : bytes >= 999.5e3 ? [bytes / 1e6, 'MB'] : [bytes / 1e3, 'kB'];
  return `${scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0)} ${unit}`;
}

/** One reason as an English sentence; the command line and the saved report share it. */
export function reasonText(reason: Reason): string {
  switch (reason.kind) {
    case 'already-fits':
      return 'The model fits as it is.';
    case 'chosen':
      return 'Chosen because it is the least damaging plan that fits.';
    case 'pinned':
      return `Fixed by you: ${reason.what}.`;
    case 'no-samples':
      return 'No calibration data: least-squares repair and 8-bit activations were not available, and answers were compared on random inputs.';
    case 'stayed-large':
      return `${reason.weight} stayed large: ${reason.why}.`;
    case 'assumed-dimension':
      return `"${reason.name}" was not given; ${reason.value} was assumed.`;
    case 'fell-back':
      return `${reason.operator} (${reason.node}) ran on ${reason.provider}, not on the provider asked for.`;
    case 'candidate-failed':
      return `The plan "${reason.id}" was tried and failed: ${reason.why}`;
    case 'blocked-by':
      return `Held up by ${reason.what}; the largest is ${reason.name} (${size(reason.bytes)}).`;
    case 'less-free':
      return `Only ${size(reason.freeBytes)} were free on the device when the result was run; it needs ${size(reason.neededBytes)}.`;
    case 'mixed': {
      const shares = Object.entries(reason.shares).map(([dtype, share]) => `${dtype} for ${(share * 100).toFixed(0)}%`);
      const basis = reason.basis === 'measured' ? 'by what their changes do to the answers' : 'by their values';
      const kept = reason.kept.length > 0 ? ` The answers hang most on ${reason.kept.join(', ')}.` : '';
      return `The weights were weighed against each other ${basis}: ${shares.join(', ')} of them.${kept}`;
    }
    case 'note':
      return reason.text;
  }
}

/** A format with the blocks a mix chose for it. */
function formatText({ dtype, blockSize, zeroPoints }: FitReport['plan']['weights'][number]): string {
  if (blockSize === undefined) return dtype;
  return `${dtype}, blocks of ${blockSize}${zeroPoints === true ? ' with zero points' : ''}`;
}

/** How the answers compare, with where the compared inputs came from. */
function answersText(quality: FitReport['quality']): string {
  if (quality === null) return 'The answers were not compared.';
  const { top1Agreement: same, sqnrDb } = quality;
  const share =
    same === null
      ? `The answers stand ${sqnrDb.toFixed(0)} dB above their error`
      : `${(same * 100).toFixed(1)}% of the answers are the same`;
  return `${share}, on ${comparedOn(quality)}.`;
}

/** What the answers and each layer lost, and what that means where labels or following tokens are known. */
function damageHtml(quality: FitReport['quality'], row: (cells: (string | number)[]) => string): string {
  if (quality === null) return '';
  const { outputs = [], layers = [], perplexity, accuracy } = quality;
  const share = (value: number | null): string => (value === null ? '–' : `${(value * 100).toFixed(1)}%`);
  const head = (cells: string[]): string =>
    `<thead><tr>${cells.map((cell) => `<th scope="col">${cell}</th>`).join('')}</tr></thead>`;
  const parts: string[] = [`<p>Damage: ${quality.damage.band}. ${damageAdvice[adviceOf(quality)]}</p>`];
  if (outputs.length > 0) {
    const rows = outputs.map(({ value, sqnrDb, cosine, klNats, top1Agreement, damage }) =>
      row([
        value,
        decibelText(sqnrDb),
        cosineText(cosine),
        klNats === null ? '–' : klText(klNats),
        share(top1Agreement),
        damage.band,
      ]),
    );
    parts.push(
      `<h2>Answers</h2><table>${head(['output', 'signal over error', 'cosine', 'KL divergence', 'same answer', 'damage'])}<tbody>${rows.join('')}</tbody></table>`,
    );
  }
  if (perplexity) {
    const { before, after, tokens } = perplexity;
    parts.push(`<p>Perplexity ${before.toFixed(3)} before, ${after.toFixed(3)} after, on ${tokens} tokens.</p>`);
  }
  if (accuracy) {
    const { before, after, samples } = accuracy;
    parts.push(`<p>Right answers: ${share(before)} before, ${share(after)} after, on ${samples} labelled samples.</p>`);
  }
  if (layers.length > 0) {
    const rows = layers.map(({ layer, operator, dtype, sqnrDb, cosine, damage }) =>
      row([layer, operator, dtype, decibelText(sqnrDb), cosineText(cosine), damage.band]),
    );
    parts.push(
      `<h2>Layers</h2><p>How far the output of each layer is from the original’s, all layers before it changed as well.</p><table>${head(['layer', 'operator', 'format', 'signal over error', 'cosine', 'damage'])}<tbody>${rows.join('')}</tbody></table>`,
    );
  }
  return parts.join('\n');
}

/** The trace as a line with its highest point in words; nothing where the job was not sampled. */
function traceHtml({ trace = [], budgetBytes }: FitReport): string {
  const first = trace[0];
  const last = trace.at(-1);
  if (!first || !last || trace.length < 2) return '';
  const highest = Math.max(...trace.map((sample) => sample.usedBytes));
  const [width, height, top] = [600, 90, Math.max(highest, 1) * 1.05];
  const x = (atMs: number): number => ((atMs - first.atMs) / Math.max(1, last.atMs - first.atMs)) * width;
  const y = (bytes: number): number => height - (bytes / top) * height;
  const points = trace.map((sample) => `${x(sample.atMs).toFixed(1)},${y(sample.usedBytes).toFixed(1)}`).join(' ');
  const seconds = ((last.atMs - first.atMs) / 1000).toFixed(1);
  const said = `${size(highest)} at most, ${seconds} s from the first sample to the last; ${size(budgetBytes)} allowed.`;
  return `<h2>Memory while it ran</h2><p>${said} What the process that runs the model held above its own start.</p>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(said)}"><polyline points="${points}" fill="none" stroke="currentColor"/>${
    budgetBytes < top
      ? `<line x1="0" x2="${width}" y1="${y(budgetBytes).toFixed(1)}" y2="${y(budgetBytes).toFixed(1)}" stroke="currentColor" stroke-dasharray="5 4"/>`
      : ''
  }</svg>`;
}

/** The report as one self-contained page: no script, no outside resource. */
export function reportHtml(report: FitReport): string {
  const { before, measured, predicted, after, quality, plan } = report;
  const row = (cells: (string | number)[]): string =>
    `<tr>${cells.map((c, i) => `<${i ? 'td' : 'th scope="row"'}>${escape(String(c))}</${i ? 'td' : 'th'}>`).join('')}</tr>`;
  const weights = plan.weights
    .filter((w) => w.bytesBefore >= 1024)
    .map((w) =>
      row([
        w.name,
        w.operator,
        w.dims.join(' × '),
        formatText(w),
        size(w.bytesBefore),
        size(w.bytesAfter),
        w.reason ?? '',
      ]),
    );
  const milliseconds = (ms: number | undefined): string => (ms === undefined ? '–' : `${ms.toFixed(2)} ms`);
  // A provider that only follows from the device is no setting of anybody; it stands in the first line.
  const reasons = report.reasons.filter((r) => r.kind !== 'pinned' || !r.what.startsWith('provider '));
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escape(report.model.name)} – Snug report</title>
<style>:root{color-scheme:light dark}body{font:15px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:1rem 0}th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}
td{overflow-wrap:anywhere}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}</style>
<h1>${escape(report.model.name)}</h1>
<p><strong>${report.fits ? 'Fits' : 'Does not fit'}: ${measured ? `${size(measured.peakBytes)} measured` : `${size(predicted.peakBytes)} predicted`}, ${size(report.budgetBytes)} allowed.</strong> Run by ${escape(plan.provider)}, batch ${plan.batch}. ${answersText(quality)}</p>
<table><thead><tr><th></th><th scope="col">before</th><th scope="col">after</th><th scope="col">predicted</th></tr></thead><tbody>
${row(['Peak memory', before.measured ? size(before.measured.peakBytes) : `${size(before.estimate.peakBytes)} (estimated)`, size(measured?.peakBytes), size(predicted.peakBytes)])}
${row(['File', size(before.fileBytes), size(after.fileBytes), ''])}
${row(['Parameters', before.parameters.toLocaleString('en'), after.parameters.toLocaleString('en'), ''])}
${row([`Time per run, batch ${plan.batch}`, milliseconds(before.measured?.latencyMs), milliseconds(measured?.latencyMs), ''])}
</tbody></table>
${damageHtml(quality, row)}${traceHtml(report)}
<h2>Why</h2><ul>${reasons.map((r) => `<li>${escape(reasonText(r))}</li>`).join('')}</ul>
<h2>Tried</h2><table><thead><tr><th scope="col">plan</th><th scope="col">predicted</th><th scope="col">measured</th><th scope="col">outcome</th></tr></thead><tbody>
${report.tried.map((t) => row([t.label, size(t.predictedBytes), size(t.measuredBytes), t.outcome])).join('\n')}</tbody></table>
<h2>Weights</h2><table><thead><tr><th scope="col">weight</th><th scope="col">operator</th><th scope="col">shape</th><th scope="col">format</th><th scope="col">before</th><th scope="col">after</th><th scope="col">note</th></tr></thead><tbody>
${weights.join('\n')}</tbody></table></html>`;
}
