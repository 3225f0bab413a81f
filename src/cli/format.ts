import Table from 'cli-table3';
import { SnugError } from '../contract/errors.js';

const units: [string, number][] = [
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['kB', 1e3],
];

/** Decimal units, three significant figures: `1.23 GB`. */
export function formatBytes(bytes: number | null): string {
  if (bytes === null) return 'unknown';
  for (const [unit, size] of units) {
    if (Math.abs(bytes) >= size) {
      const value = bytes / size;
      return `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${unit}`;
    }
  }
  return `${bytes} B`;
}

const factors: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};

/**
 * Reads `4GB`, `512 MB`, `1.5GiB` or plain bytes.
 *
 * @throws SnugError `E_USAGE`
 */
export function parseBytes(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const factor = match ? factors[match[2].toLowerCase()] : undefined;
  if (!match || factor === undefined || !(Number(match[1]) > 0)) {
    throw new SnugError('E_USAGE', `"${text}" is no size.`, { action: 'Write it like 4GB, 512MB or 1.5GiB.' });
  }
  return Math.round(Number(match[1]) * factor);
}

/**
 * Reads `NAME=N` dimension settings.
 *
 * @throws SnugError `E_USAGE`
 */
export function parseDims(settings: string[]): Record<string, number> {
  // Names come from the model: `constructor` is one like any other.
  const dims = Object.create(null) as Record<string, number>;
  for (const setting of settings) {
    const match = /^(.+)=(\d+)$/.exec(setting);
    if (!match) {
      throw new SnugError('E_USAGE', `"${setting}" is no dimension.`, { action: 'Write it like --dim sequence=128.' });
    }
    dims[match[1]] = parseNumber(match[2], `--dim ${match[1]}`, 0, 2 ** 31 - 1, true);
  }
  return dims;
}

/** A non-negative number option in a range. @throws SnugError `E_USAGE` */
export function parseNumber(text: string, name: string, low: number, high: number, integer = false): number {
  const value = Number(text);
  if (
    text.trim() === '' ||
    !Number.isFinite(value) ||
    value < low ||
    value > high ||
    (integer && !Number.isInteger(value))
  ) {
    throw new SnugError(
      'E_USAGE',
      `${name} must be a ${integer ? 'whole ' : ''}number from ${low} to ${high}, not "${text}".`,
      {
        action: 'Add --help for the options.',
      },
    );
  }
  return value;
}

/** Text without the control characters by which a name in a foreign file could steer a terminal. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- those are what is looked for
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, '\ufffd');
}

/**
 * Breaks lines that are longer than a terminal is wide between words. What follows stands under the last column of a row
 * of a table, and a little further in than a line of text.
 */
export function wrapLines(text: string, columns: number): string {
  const wrap = (line: string, indent: string): string => {
    if (line.length <= columns) return line;
    const at = line.lastIndexOf(' ', columns);
    // One long word, a path for example, is left whole.
    if (at <= indent.length) return line;
    return `${line.slice(0, at).trimEnd()}\n${wrap(indent + line.slice(at + 1).trimStart(), indent)}`;
  };
  return text
    .split('\n')
    .map((line) => {
      const inner = /^\s*/u.exec(line)?.[0].length ?? 0;
      const column = /^.*\S {2,}(?=\S)/u.exec(line)?.[0].length ?? columns;
      return wrap(line, ' '.repeat(column < columns * 0.7 ? column : inner + 2));
    })
    .join('\n');
}

export function percent(share: number, digits = 1): string {
  return `${(share * 100).toFixed(digits)} %`;
}

/** `+1.2 %`; no sign where it rounds to nothing. */
export function signedPercent(share: number): string {
  return Math.abs(share) < 0.0005 ? percent(0) : `${share > 0 ? '+' : '−'}${percent(Math.abs(share))}`;
}

export function milliseconds(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms >= 10 ? 1 : 2)} ms`;
}

/** Rows as aligned columns under a header; the columns in `right` are right-aligned. */
export function table(header: string[], rows: string[][], right: number[] = []): string {
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
  };
  const grid = new Table({
    head: header,
    colAligns: header.map((_, column) => (right.includes(column) ? 'right' : 'left')),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 1, compact: true },
    chars: {
      ...none,
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: ' ',
    },
  });
  // A line break in a name would break the row.
  grid.push(...rows.map((cells) => cells.map((cell) => printable(cell).replaceAll('\n', '\ufffd'))));
  return grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
